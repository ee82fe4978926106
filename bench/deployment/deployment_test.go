package deployment

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/bench/servertest"
	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/all"
)

func TestValidate(t *testing.T) {
	good := Config{
		WS: "wss://a.example/v1/ws", SSE: "http://[::1]:8080", Alerts: "https://a.example", Kafka: all.Kafka{Brokers: []string{"k:9092", "[::1]:9092"}}, Token: "x",
		PID: 1, Insecure: true, Sources: []string{"10.0.0.1", "fd00::1"}, Symbols: []string{"A", "B"},
	}
	for _, c := range []*Config{{}, &good} {
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
	f := func(flag string, change func(c *Config)) {
		t.Helper()
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), flag) {
			t.Errorf("%v, want one about %s", err, flag)
		}
	}
	for _, bad := range []string{"a.example:80", "127.0.0.1:80", "http://a.example", "ws://", "ws:a", "ws://u:p@a.example", "ws://a/?x=y", "ws://a/#x", "://"} {
		f("--ws", func(c *Config) { c.WS = bad })
	}
	f("--sse", func(c *Config) { c.SSE = "ws://a.example" })
	f("--alerts", func(c *Config) { c.Alerts = "a.example" })
	f("--kafka", func(c *Config) { c.Kafka.Brokers = []string{"a.example"} })
	f("--kafka-tls, --kafka-sasl and --kafka-username", func(c *Config) { c.Kafka = all.Kafka{TLS: true} })
	f("--kafka-ca", func(c *Config) { c.Kafka.CAFile, c.Kafka.Topics = "x", stream.DefaultTopics() })
	f("--kafka", func(c *Config) { c.Kafka.Brokers = []string{":9092"} })
	f("--source", func(c *Config) { c.Sources = []string{"a.example"} })
	f("--symbols", func(c *Config) { c.Symbols = []string{"A", "A"} })
	f("--symbols", func(c *Config) { c.Symbols = []string{""} })
	f("--token", func(c *Config) { *c = Config{Token: "x"} })
	f("--insecure", func(c *Config) { c.WS, c.Alerts = "ws://a.example", "" })
	f("--pid", func(c *Config) { c.PID = -1 })
	f("--pid", func(c *Config) { *c = Config{PID: 1} })
}

// TestInstruments asks running servers with a market, by either edge, with TLS that nobody vouches for.
func TestInstruments(t *testing.T) {
	addrs := servertest.Start(t, func(c *all.Config) { c.Market.Kind, c.Market.Instruments = "sim", 5 })
	for _, c := range []Config{{WS: "ws://" + addrs.WS}, {SSE: "http://" + addrs.SSE}, {SSE: "http://" + addrs.SSE + "/"}} {
		d := Deployment{Config: c}
		var names []string
		var err error
		for deadline := time.Now().Add(20 * time.Second); len(names) != 5 && time.Now().Before(deadline); { // until each has a book
			names, err = d.Instruments(t.Context(), 100) // there may be none yet, which is an error
		}
		if err != nil {
			t.Error(err)
		}
		three, err := d.Instruments(t.Context(), 3)
		if len(names) != 5 || !slices.Contains(names, "BTC-USDT") || err != nil || !slices.Equal(three, names[:3]) {
			t.Errorf("%+v: %q, and three %q, %v", c, names, three, err)
		}
	}
}

func TestInstrumentsNamed(t *testing.T) {
	f := func(c Config, most int, want ...string) {
		t.Helper()
		d := Deployment{Config: c}
		if got, err := d.Instruments(t.Context(), most); !slices.Equal(got, want) || (err == nil) != (len(want) > 0) {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
	f(Config{Symbols: []string{"A", "B", "C"}, Kafka: all.Kafka{Brokers: []string{"k:1"}}}, 2, "A", "B")
	f(Config{Kafka: all.Kafka{Brokers: []string{"k:1"}}}, 2, "BENCH-S0000", "BENCH-S0001")
	f(Config{Alerts: "http://a.example"}, 2)

	ts := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer x" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprint(w, `{"items":[{"sym":"A","state":"stale"},{"sym":"BENCH-A","state":"quiet"},{"sym":"B","state":"live"},{"sym":"C","state":"quiet"}]}`) // the client sees
	}))
	defer ts.Close()
	f(Config{SSE: ts.URL, Token: "x", Insecure: true}, 9, "B", "C")
	f(Config{SSE: ts.URL, Token: "x", Insecure: true}, 2, "B", "C")
	f(Config{SSE: ts.URL, Token: "x"}, 9)
	f(Config{SSE: ts.URL, Insecure: true}, 9)
}

// TestKafkaFlags has what reaches a cluster arrive at the servers that are started on it.
func TestKafkaFlags(t *testing.T) {
	want := all.Kafka{Brokers: []string{"a:1", "b:2"}, TLS: true, CAFile: "ca.pem", Mechanism: "plain", Username: "u", PasswordFile: "p"}
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	var got all.Kafka
	got.RegisterFlags(f)
	if err := f.Parse(kafkaFlags(want)); err != nil {
		t.Fatal(err)
	}
	want.Topics = stream.DefaultTopics()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}
