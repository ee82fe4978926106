package main

import (
	"github.com/spf13/cobra"

	"github.com/tickwire/tickwire/bench/load"
)

// whereAlerts is what the help of scenarios says of --alerts, --kafka and --receive.
const whereAlerts = `Without --alerts the servers are started in a process of their own (broker, ingest, webhook service), anew for each run, on an embedded
broker or on the cluster that --kafka names. With --alerts and --kafka it is a deployment that runs: --token is an API key of the tenant that
the alerts are made for, and they and their endpoints are taken away in the end; the instruments, whose names begin with BENCH-, stay there.
The deployment must be allowed to call our receiver: --webhook-allow-nets and --webhook-allow-ports are the server's flags, --receive says
where the receiver listens, --receive-url what the server calls.`

func alertsCommand() *cobra.Command {
	return profiled(lightCommand("alerts", "From a raw trade's intended send time to the signed request that an alert makes",
		`Publishes trades on a fixed schedule, each second of which crosses the limit of its instrument's alerts, and receives what these send.
Every signature is verified. A request that comes once more is no fault (again): delivery is at least once. One that does not come is (missing).

`+whereAlerts, load.DefaultAlerts(), load.RunAlerts))
}

func webhookCommand() *cobra.Command {
	return profiled(lightCommand("webhook", "How alerts are delivered that all fire at once",
		`One tick fires all alerts, again and again. Latency is from the tick to the request; delivered/s is of the time in which there was something
to deliver; recovery is the longest that it took until the last request of a tick; unfairness compares the endpoints. With --bad some
endpoints are slow or failing, and what the others notice is measured.

`+whereAlerts, load.DefaultStorm(), load.RunStorm))
}
