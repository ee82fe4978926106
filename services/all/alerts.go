package all

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tickwire/tickwire/pkg/stream"
	"github.com/tickwire/tickwire/services/webhook"
)

// keyFile is where the key is kept that encrypts secrets in the database, when nobody gave one.
const keyFile = "webhook.key"

// defaultAlerts is the webhook service on a machine of one's own: nobody needs a key, and endpoints may be on loopback.
func defaultAlerts() webhook.Config {
	c := webhook.DefaultConfig()
	c.API.Auth = webhook.AuthNone
	c.Deliver.AllowNets, c.Deliver.AllowPorts = []string{"127.0.0.0/8", "::1/128"}, []string{"1-65535"}
	return c
}

// lacks tells what of the webhook service's configuration is ours to give: a folder, or its key.
func (c *Config) lacks() (folder, key bool) {
	if c.Webhook.Database != "" {
		return false, false
	}
	return c.Webhook.Data == "", c.Webhook.Key == ""
}

func (c *Config) validateAlerts() error {
	if c.Webhook.Addr == "" {
		return nil
	}
	w := c.Webhook
	folder, key := c.lacks()
	w.Ephemeral = folder || key
	return w.Validate()
}

// openAlerts makes the webhook service, nil when it is not wanted. It reads md.events by itself, so it has connections to
// Kafka of its own. Without a folder its database is in a temporary one; without a key for it, one is made and kept there.
func (c *Config) openAlerts(kafka stream.Config, deps Deps) (alerts *webhook.Service, tidy func(), err error) {
	if c.Webhook.Addr == "" {
		return nil, func() {}, nil
	}
	w := c.Webhook
	folder, key := c.lacks()
	tidy = func() {}
	switch {
	case folder:
		w.Ephemeral = true
		if w.Data, err = os.MkdirTemp("", "tickwire-"); err != nil {
			return nil, nil, fmt.Errorf("--data: %w", err)
		}
		tidy = func() { _ = os.RemoveAll(w.Data) } // it is a temporary folder
	case key:
		if w.Key, err = keptKey(w.Data); err != nil {
			return nil, nil, fmt.Errorf("--data: %w", err)
		}
	}
	cluster, err := stream.Open(kafka)
	if err != nil {
		tidy()
		return nil, nil, err
	}
	alerts, err = webhook.New(w, webhook.Deps{Log: deps.Log.Named("webhook"), Metrics: deps.Metrics, Cluster: cluster})
	if err != nil {
		cluster.Close()
		tidy()
		return nil, nil, err
	}
	remove := tidy
	return alerts, func() { cluster.Close(); remove() }, nil
}

// keptKey reads the key in a folder, and makes one the first time. The file is there with all of the key in it, or not at all,
// and never replaces another one: what is encrypted with a key that is gone can't be read any more.
func keptKey(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	file := filepath.Join(dir, keyFile)
	text, err := os.ReadFile(file)
	if err == nil {
		return strings.TrimSpace(string(text)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	made := base64.StdEncoding.EncodeToString(key[:])
	f, err := os.CreateTemp(dir, keyFile+".*")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(f.Name()) }() // it has its other name by then
	_, err = f.WriteString(made + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Link(f.Name(), file)
	}
	if err != nil {
		return "", err
	}
	return made, nil
}

// alertsAddr is the line that says where the alerts API is, and how long what it is told lasts.
func (s *Service) alertsAddr() string {
	if s.addrs.Alerts == "" {
		return ""
	}
	scheme := "http"
	if s.cfg.Webhook.TLSCert != "" {
		scheme = "https"
	}
	line := "\n  alerts       " + scheme + "://" + s.addrs.Alerts + "/v1/alerts"
	if folder, _ := s.cfg.lacks(); folder {
		line += "  (in a temporary folder; --data FOLDER keeps them)"
	}
	return line
}

// alertsHint is how to see an alert.
func (s *Service) alertsHint() string {
	if s.addrs.Alerts == "" {
		return ""
	}
	return "\nPrice alerts as webhooks, to a receiver on this machine:\n  " + program() + " listen --addr " + s.addrs.Alerts
}
