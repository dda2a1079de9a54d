# What is different in a container: the log goes to stderr, SIP comes in on the container's own interface.
s/^stderror_enabled=no/stderror_enabled=yes/
s/^syslog_enabled=yes/syslog_enabled=no/
s/^\(socket=[a-z]*\):127\.0\.0\.1:/\1:eth0:/
