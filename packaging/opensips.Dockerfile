# OpenSIPS from its own project's image, with the modules that image leaves out. For compose.yaml.
ARG OPENSIPS_VERSION=3.6
FROM opensips/opensips:${OPENSIPS_VERSION}
USER 0
# The version is that of the image: its package source has one series of OpenSIPS.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends opensips-http-modules opensips-wss-module \
    && rm -rf /var/lib/apt/lists/*
COPY packaging/opensips.sed /etc/opensips-container.sed
# The package names this user, and gives it no fixed number.
# hadolint ignore=DL3066
USER opensips
# -A, where phones reach us, and memory come from compose.yaml.
ENTRYPOINT ["/usr/sbin/opensips", "-F", "-f", "/etc/opensips/opensips.cfg", "-p", "sed -f /etc/opensips-container.sed"]
