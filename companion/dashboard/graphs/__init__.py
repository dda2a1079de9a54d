"""Series as ECharts options."""
