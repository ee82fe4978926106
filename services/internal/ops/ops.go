// Package ops is what every process offers its operator: JSON logs, metrics, health and readiness, and profiles.
package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// NewLogger returns a logger that writes JSON lines to stderr. Level is debug, info, warn or error.
func NewLogger(level string) (*zap.Logger, error) {
	l, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	cfg := zap.NewProductionConfig()
	cfg.Level = zap.NewAtomicLevelAt(l)
	cfg.Sampling = nil
	cfg.DisableStacktrace = true
	cfg.DisableCaller = true
	cfg.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	return cfg.Build()
}

// NewRegistry returns a metrics registry that already holds the process's own figures.
func NewRegistry(version string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "tickwire_build_info", Help: "Always 1; the label says which version runs.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	r.MustRegister(build)
	return r
}

// Readiness collects the parts of a process that must be ready before traffic is sent to it. The zero value is ready.
type Readiness struct {
	mu     sync.Mutex
	checks map[string]func() error
}

// Add registers a part: check returns nil when it is ready, otherwise why not. It must be quick and may be called from
// any goroutine.
func (r *Readiness) Add(part string, check func() error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.checks == nil {
		r.checks = make(map[string]func() error)
	}
	r.checks[part] = check
}

// Err returns nil when every part is ready, otherwise an error that says which ones are not.
func (r *Readiness) Err() error {
	r.mu.Lock()
	parts := make([]string, 0, len(r.checks))
	for part := range r.checks {
		parts = append(parts, part)
	}
	slices.Sort(parts)
	checks := make([]func() error, len(parts))
	for i, part := range parts {
		checks[i] = r.checks[part]
	}
	r.mu.Unlock()
	var errs []error
	for i, check := range checks {
		if err := check(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", parts[i], err))
		}
	}
	return errors.Join(errs...)
}

// Config is the admin listener's.
type Config struct {
	Addr string // host:port; port 0 takes any free one; empty means no admin listener
}

// DefaultConfig listens on loopback, port 9090.
func DefaultConfig() Config { return Config{Addr: "127.0.0.1:9090"} }

// RegisterFlags defines --admin-addr.
func (c *Config) RegisterFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Addr, "admin-addr", c.Addr, "`ADDRESS` for /metrics, /healthz, /readyz and /debug/pprof; empty for none")
}

// Admin is the operator's listener. It must not face the public: profiles and metrics tell much.
type Admin struct {
	ln    net.Listener
	serve *http.Server
}

// Listen opens the admin listener; Run serves it.
func Listen(cfg Config, gather prometheus.Gatherer, ready *Readiness) (*Admin, error) {
	ln, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("--admin-addr: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(gather, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { report(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { report(w, ready.Err()) })
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return &Admin{ln: ln, serve: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}}, nil
}

func report(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err == nil {
		_, _ = w.Write([]byte("{\"status\":\"ok\"}\n"))
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "not ready", "why": err.Error()})
}

// Addr is the address that Listen got.
func (a *Admin) Addr() string { return a.ln.Addr().String() }

// Run serves until ctx ends, then waits at most two seconds for requests under way.
func (a *Admin) Run(ctx context.Context) error {
	done := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := a.serve.Shutdown(grace); err != nil {
			err = a.serve.Close()
			done <- err
			return
		}
		done <- nil
	})
	err := a.serve.Serve(a.ln)
	if stop() || !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin listener: %w", err)
	}
	return <-done
}
