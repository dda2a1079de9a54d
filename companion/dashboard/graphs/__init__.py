"""Draw series as options of ECharts."""
