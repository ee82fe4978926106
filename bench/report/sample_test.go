package report

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// sample is a report as a scenario would make it, from a seed: slower by slow.
func sample(seed uint64, system string, slow float64) *Report {
	rnd := rand.New(rand.NewPCG(seed, 1))
	noise := func(sigma float64) float64 { return math.Exp(sigma * rnd.NormFloat64()) }
	r := &Report{
		Version: Version, Scenario: "ws-fanout", Title: "WebSocket fan-out: 200 topics, 20 for each client, books in SBE, 5,000 messages a second",
		Command: "tickwire-bench ws-fanout --clients 1000,5000 --json out.json",
		Machine: Machine{
			Date: time.Date(2026, 11, 26, 3, 4, 5, 0, time.UTC), CPU: "AMD EPYC", Cores: 2, System: "Linux 6.1.0-45-amd64, amd64",
			Go: "go1.26.8", Build: "0123456789ab", Load: "2.41",
		},
		System:   System{Name: system, Protocol: "SBE", Where: "started for this run, on the embedded broker", Local: true},
		Settings: []Setting{{"clients", "1000,5000"}, {"duration", "5s"}, {"rate", "5000"}, {"seed", fmt.Sprint(seed)}},
		Notes:    []string{"The clients shared the two processors with the server."},
	}
	at := 0.0
	phase := func(name string, seconds float64) {
		r.Phases = append(r.Phases, Phase{name, at, at + seconds})
		at += seconds
	}
	for i, clients := range []float64{1000, 5000} {
		row := Row{Name: fmt.Sprintf("%.0f clients", clients)}
		series := map[string]*Series{}
		keep := func(name, unit string, t, v float64) {
			if series[name] == nil {
				series[name] = &Series{Name: name, Unit: unit}
			}
			s := series[name]
			s.At, s.Values = append(s.At, t), append(s.Values, v)
		}
		base := slow * (0.8 + float64(i))
		for run := range 5 {
			phase("connect", 1)
			from := at
			phase(fmt.Sprintf("run %d", run+1), 6)
			p50 := base * noise(0.08)
			row.Record(map[string]float64{
				"offered/s": clients * 100, "delivered/s": clients * 100 * noise(0.004), "p50": p50, "p90": p50 * 2.4 * noise(0.04), "p99": p50 * 5 * noise(0.1),
				"p99.9": p50 * 9 * noise(0.15), "max": p50 * 14 * noise(0.3), "bytes": 152, "cpu": 2.1 * slow * noise(0.05), "busy": 105 * noise(0.05), "allocs": 0.022 * noise(0.05),
				"rss": (50 + clients/100) * noise(0.02), "floor_cpu": 5.8 * noise(0.06), "floor/s": 175_000 * noise(0.05), "ratio": 0.36 * slow * noise(0.06), "client_busy": 61 * noise(0.1),
				"gaps": 0, "lost": 0, "malformed": 0, "closed": 0,
			})
			for t := from + 1; t < at; t++ {
				keep("delivered", "/s", t, clients*100*noise(0.02))
				keep("p50", "ms", t, p50*noise(0.1))
				keep("p99", "ms", t, p50*5*noise(0.2))
				keep("max", "ms", t, p50*10*noise(0.3))
				keep("sent", "/s", t, 5000*noise(0.01))
				keep("CPU", "%", t, 105*noise(0.05))
				keep("clients", "", t, clients*noise(0))
				keep("memory", "MiB", t, (50+clients/100)*noise(0.01)+float64(run))
			}
		}
		for _, name := range []string{"delivered", "sent", "p50", "p99", "max", "CPU", "memory", "clients"} {
			row.Series = append(row.Series, *series[name])
		}
		for _, q := range []float64{0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100} {
			row.Latency = append(row.Latency, Point{q, base * (0.1 + 0.9*math.Pow(math.Log10(100/(100-min(q, 99.9999)))/math.Log10(2), 1.15))})
		}
		if err := row.Judge("p99<=5ms,delivered/s>=90k"); err != nil {
			panic(err)
		}
		r.Rows = append(r.Rows, row)
	}
	return r
}

// withFaults breaks a report.
func withFaults(r *Report) *Report {
	r.Rows[1].Measure("gaps").Runs[2] = 3
	r.Rows[1].Notes = append(r.Rows[1].Notes, "The clients were the bottleneck: 98 % of a processor, and turns waited 12 ms for one.")
	r.Failed = append(r.Failed, "gaps>0: 3 in run 3 of 5, 5000 clients")
	return r
}
