package conf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/pkg/auth"
	"github.com/tickwire/tickwire/pkg/stream"
)

func TestFromEnv(t *testing.T) {
	env := map[string]string{"TICKWIRE_WS_ADDR": "from-env:1", "TICKWIRE_OTHER": "x", "TICKWIRE_IDLE": "7s"}
	lookup := func(k string) (string, bool) { v, ok := env[k]; return v, ok }
	fs := pflag.NewFlagSet("t", pflag.ContinueOnError)
	addr := fs.String("ws-addr", "default:1", "")
	other := fs.String("other", "", "")
	idle := fs.Duration("idle", time.Second, "")
	left := fs.String("left", "alone", "")
	if err := fs.Parse([]string{"--other", "flag"}); err != nil {
		t.Fatal(err)
	}
	if err := FromEnv(fs, lookup); err != nil {
		t.Fatal(err)
	}
	if *addr != "from-env:1" || *other != "flag" || *idle != 7*time.Second || *left != "alone" {
		t.Errorf("got %q %q %v %q", *addr, *other, *idle, *left)
	}
	env["TICKWIRE_LEFT"] = "set"
	env["TICKWIRE_IDLE"] = "soon"
	fs = pflag.NewFlagSet("t", pflag.ContinueOnError)
	fs.Duration("idle", time.Second, "")
	err := FromEnv(fs, lookup)
	if err == nil || !strings.Contains(err.Error(), "TICKWIRE_IDLE") || !strings.Contains(err.Error(), "--idle") {
		t.Errorf("a bad value: %v; want the variable and the flag named", err)
	}
}

func TestKafkaValidate(t *testing.T) {
	f := func(k Kafka, want string) {
		t.Helper()
		k.Topics = stream.DefaultTopics()
		err := k.Validate()
		switch {
		case want == "" && err != nil:
			t.Errorf("%+v: %v", k, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%+v: %v; want %q in it", k, err, want)
		}
	}
	b := []string{"a:1", "b:2"}
	f(Kafka{Brokers: b}, "")
	f(Kafka{}, "--kafka")
	f(Kafka{Brokers: []string{"nohost"}}, `"nohost"`)
	f(Kafka{Brokers: b, CAFile: "x"}, "--kafka-tls")
	f(Kafka{Brokers: b, TLS: true, CertFile: "x"}, "--kafka-key")
	f(Kafka{Brokers: b, Mechanism: "plain"}, "--kafka-username")
	f(Kafka{Brokers: b, Username: "u"}, "--kafka-sasl")
}

func TestAuth(t *testing.T) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	c := DefaultAuth()
	c.RegisterFlags(fs)
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if a, err := c.Open(nil); err != nil || a.Mode() != auth.None {
		t.Errorf("%v", err)
	}
	f := func(want string, args ...string) {
		t.Helper()
		c := DefaultAuth()
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		c.RegisterFlags(fs)
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		err := c.Validate()
		if err == nil {
			_, err = c.Open(nil)
		}
		if err == nil || !strings.HasPrefix(err.Error(), want+": ") {
			t.Errorf("%v: %v, want an error of %s", args, err, want)
		}
	}
	f("--auth", "--auth", "maybe")
	f("--auth", "--auth", "optional")
	f("--auth-jwks", "--auth", "required", "--auth-jwks", "https:///")
	f("--auth-jwks", "--auth", "required", "--auth-jwks", "/no/such/file")
}

func TestKafkaStream(t *testing.T) {
	dir := t.TempDir()
	pw := filepath.Join(dir, "password")
	if err := os.WriteFile(pw, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := Kafka{Brokers: []string{"a:1"}, TLS: true, Mechanism: "plain", Username: "u", PasswordFile: pw}
	cfg, err := k.Stream("id")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.TLS == nil || cfg.SASL.Password != "secret" || cfg.SASL.Username != "u" || cfg.ClientID != "id" {
		t.Errorf("got %+v", cfg)
	}
	k.CAFile = pw
	if _, err := k.Stream("id"); err == nil || !strings.Contains(err.Error(), "--kafka-ca") {
		t.Errorf("a CA file without a certificate: %v", err)
	}
	k = Kafka{Brokers: []string{"a:1"}, Mechanism: "plain", Username: "u", PasswordFile: filepath.Join(dir, "absent")}
	if _, err := k.Stream("id"); err == nil || !strings.Contains(err.Error(), "--kafka-password-file") {
		t.Errorf("an absent password file: %v", err)
	}
}
