# One tick of Duly each minute: it runs what is due, and prints nothing when all is well, so a mail means that something
# is wrong. Where duly.timer or duly-daemon.service is enabled, put a # before the line that starts `duly run`; both would
# do no harm, since a job is executed by one of them.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# MAILTO=admin@example.com

* * * * * duly [ ! -x /usr/bin/duly ] || exec /usr/bin/duly run --config /etc/duly/jobs.yaml

# /run is empty after a start of the machine; systemd makes the folder by itself, others do not.
@reboot root [ -d /run/duly ] || install -d -m 0700 -o duly -g duly /run/duly
