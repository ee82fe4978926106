// Package servertest runs all of Tickwire within a test, on an embedded broker and without a market.
package servertest

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tickwire/tickwire/services/all"
)

// Start starts the servers and waits until they are ready. They end with the test. Change, which may be nil, changes their
// configuration.
func Start(t testing.TB, change func(*all.Config)) all.Addrs {
	t.Helper()
	cfg := all.DefaultConfig()
	cfg.Market.Kind, cfg.BrokerAddr, cfg.WS.Addr, cfg.SSE.Addr, cfg.Admin.Addr = "none", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", ""
	cfg.WS.Drain, cfg.SSE.Drain, cfg.Webhook.Addr = time.Millisecond, time.Millisecond, ""
	cfg.SSE.RestRate = 0 // all clients come from one address
	if change != nil {
		change(&cfg)
	}
	service, err := all.New(cfg, all.Deps{Log: zap.NewNop(), Metrics: prometheus.NewRegistry(), Out: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- service.Run(ctx) }() // waited for below
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-service.Ready():
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	}
	return service.Addrs()
}
