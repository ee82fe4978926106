package deployment

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tickwire/tickwire/bench/target"
	"github.com/tickwire/tickwire/pkg/client"
)

// Client is how a verifying client reaches the WebSocket edge.
func (d *Deployment) Client() client.Config {
	cfg := client.Config{URL: d.WS, TLS: d.TLS()}
	if d.Token != "" {
		cfg.Token = func(context.Context) (string, error) { return d.Token, nil }
	}
	return cfg
}

// TLS is how servers are reached by TLS; nil is the usual way.
func (d *Deployment) TLS() *tls.Config {
	if !d.Insecure {
		return nil
	}
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} //nolint:gosec // the user wants it so
}

// prefix is what the names of our own instruments begin with.
const prefix = "BENCH-"

// Instruments are up to so many symbols to subscribe to: those that the user names, or, where we publish, names of our own,
// and else what trades in the running market.
func (d *Deployment) Instruments(ctx context.Context, most int) (names []string, err error) {
	switch {
	case len(d.Symbols) > 0:
		names = d.Symbols
	case len(d.Kafka.Brokers) > 0:
		for i := range most {
			names = append(names, prefix+target.Sym(i))
		}
	default:
		names, err = d.Market(ctx)
	}
	if err == nil && len(names) == 0 {
		err = errors.New("the market has no instrument that is alive")
	}
	return names[:min(most, len(names))], err
}

// Market is what trades in the running market. Instruments that earlier runs have published are still there, and nothing happens
// to them: they are left out while there are others.
func (d *Deployment) Market(ctx context.Context) (names []string, err error) {
	switch {
	case d.WS != "":
		names, err = client.Symbols(ctx, d.Client(), 2*time.Second)
	case d.SSE != "":
		names, err = d.listed(ctx)
	default:
		err = errors.New("no edge is named: --ws or --sse")
	}
	ours := func(name string) bool { return strings.HasPrefix(name, prefix) }
	if slices.ContainsFunc(names, func(name string) bool { return !ours(name) }) {
		names = slices.DeleteFunc(names, ours)
	}
	return names, err
}

// listed asks the public edge.
func (d *Deployment) listed(ctx context.Context) (names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(d.SSE, "/")+"/v1/instruments", http.NoBody)
	if err != nil {
		return nil, err
	}
	if d.Token != "" {
		req.Header.Set("Authorization", "Bearer "+d.Token)
	}
	transport := &http.Transport{TLSClientConfig: d.TLS()}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req) // a redirect is no answer
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.URL, err)
	}
	defer func() { _ = res.Body.Close() }() // it has been read
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %.300s", req.URL, res.Status, body)
	}
	var list struct{ Items []struct{ Sym, State string } }
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", req.URL, err)
	}
	for _, in := range list.Items {
		if in.State == "live" || in.State == "quiet" {
			names = append(names, in.Sym)
		}
	}
	return names, nil
}
