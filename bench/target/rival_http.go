package target

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	httpLanes   = 8   // requests under way, at most
	maxCommands = 256 // publications of a request to Centrifugo
)

// newHTTP is a client whose every lane keeps a connection.
func newHTTP(cfg *Config) *http.Client {
	return &http.Client{
		Timeout: takeLimit,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: httpLanes, DisableCompression: true, IdleConnTimeout: time.Minute, TLSClientConfig: cfg.tls(""),
		},
	}
}

// post makes requests of one kind.
type post struct {
	client *http.Client
	header http.Header
	answer bytes.Buffer
}

// do makes one, and returns what a good answer holds, which is valid until the next one.
func (p *post) do(to string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, to, bytes.NewReader(body)) // the client has a limit
	if err != nil {
		return nil, err
	}
	req.Header = p.header
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	p.answer.Reset()
	_, err = p.answer.ReadFrom(io.LimitReader(resp.Body, 1<<20))
	_ = resp.Body.Close() // has been read
	switch {
	case resp.StatusCode/100 != 2:
		return nil, fmt.Errorf("POST %s: %s: %.300s", to, resp.Status, bytes.TrimSpace(p.answer.Bytes()))
	case err != nil:
		return nil, fmt.Errorf("POST %s: %w", to, err)
	}
	return p.answer.Bytes(), nil
}

// httpURL checks the address that is published to.
func httpURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is no http:// or https:// URL", s)
	}
	return u, nil
}

// toCentrifugo publishes by the server's HTTP API: all that has gathered in one request, a batch, when it is more than one
// message. An URL without a path means /api.
func (r *rival) toCentrifugo(cfg *Config) error {
	u, err := httpURL(cfg.Publish)
	if err != nil {
		return err
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	if u.Path == "" {
		u.Path = "/api"
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if cfg.PublishKey != "" {
		header.Set("X-API-Key", cfg.PublishKey)
	}
	client, to := newHTTP(cfg), u.JoinPath("batch").String()
	channels := make([][]byte, len(r.names))
	for i, name := range r.names {
		if channels[i], err = json.Marshal(name); err != nil {
			return err
		}
	}
	r.hangUp = func() error { client.CloseIdleConnections(); return nil }
	r.start(httpLanes, func() func(*batch) error {
		p := &post{client: client, header: header}
		var body []byte
		return func(b *batch) error {
			for from := 0; from < b.len(); from += maxCommands {
				body = append(body[:0], `{"commands":[`...)
				for i := from; i < min(b.len(), from+maxCommands); i++ {
					if i > from {
						body = append(body, ',')
					}
					topic, payload := b.message(i)
					body = append(append(body, `{"publish":{"channel":`...), channels[topic]...)
					body = append(append(append(body, `,"data":`...), payload...), "}}"...)
				}
				answer, err := p.do(to, append(body, "]}"...))
				if err != nil {
					return err
				}
				if err := centrifugoRefused(answer); err != nil {
					return fmt.Errorf("POST %s: %w", to, err)
				}
			}
			return nil
		}
	})
	return nil
}

// centrifugoRefused looks for errors in the answer to a batch, whose status is good all the same.
func centrifugoRefused(answer []byte) error {
	var m struct {
		Error   json.RawMessage `json:"error"`
		Replies []struct {
			Error json.RawMessage `json:"error"`
		} `json:"replies"`
	}
	if err := json.Unmarshal(answer, &m); err != nil {
		return fmt.Errorf("%.300s: %w", answer, err)
	}
	if m.Error != nil {
		return fmt.Errorf("refused: %s", m.Error)
	}
	for i := range m.Replies {
		if why := m.Replies[i].Error; why != nil {
			return fmt.Errorf("refused: %s", why)
		}
	}
	return nil
}

// toMercure publishes a form to a hub. The key is a token for publishers, or the hub's secret, of which one is made.
func (r *rival) toMercure(cfg *Config) error {
	u, err := httpURL(cfg.Publish)
	if err != nil {
		return err
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/.well-known/mercure"
	}
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	if cfg.PublishKey != "" {
		header.Set("Authorization", "Bearer "+MercureToken(cfg.PublishKey, "publish"))
	}
	names := make([]string, len(r.names))
	for i, name := range r.names {
		names[i] = "topic=" + url.QueryEscape(name) + "&data="
	}
	r.each(newHTTP(cfg), header, func(int) string { return u.String() }, func(body []byte, topic int, payload []byte) []byte {
		return append(append(body, names[topic]...), url.QueryEscape(string(payload))...)
	})
	return nil
}

// MercureToken is a token that may publish, or subscribe to, every topic, signed with a hub's secret (HS256). A key that is a
// token already stays what it is.
func MercureToken(key, claim string) string {
	if strings.Count(key, ".") == 2 && strings.HasPrefix(key, "ey") {
		return key
	}
	part := base64.RawURLEncoding.EncodeToString
	text := part([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + part([]byte(`{"mercure":{"`+claim+`":["*"]}}`))
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return text + "." + part(mac.Sum(nil))
}

// toNchan publishes to the location with nchan_publisher, whose URL has {topic} in it.
func (r *rival) toNchan(cfg *Config) error {
	if _, err := httpURL(cfg.Publish); err != nil {
		return err
	}
	if !strings.Contains(cfg.Publish, TopicMark) {
		return fmt.Errorf("%q has no %s in it", cfg.Publish, TopicMark)
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if !r.json {
		header.Set("Content-Type", "application/octet-stream")
	}
	if cfg.PublishKey != "" {
		header.Set("Authorization", "Bearer "+cfg.PublishKey)
	}
	to := make([]string, len(r.names))
	for i, name := range r.names {
		to[i] = strings.ReplaceAll(cfg.Publish, TopicMark, url.PathEscape(name))
	}
	r.each(newHTTP(cfg), header, func(topic int) string { return to[topic] }, func(body []byte, _ int, payload []byte) []byte {
		return append(body, payload...)
	})
	return nil
}

// each makes a request for each message.
func (r *rival) each(client *http.Client, header http.Header, to func(topic int) string, fill func(body []byte, topic int, payload []byte) []byte) {
	r.hangUp = func() error { client.CloseIdleConnections(); return nil }
	r.start(httpLanes, func() func(*batch) error {
		p := &post{client: client, header: header}
		var body []byte
		return func(b *batch) error {
			for i := range b.len() {
				topic, payload := b.message(i)
				body = fill(body[:0], topic, payload)
				if _, err := p.do(to(topic), body); err != nil {
					return err
				}
			}
			return nil
		}
	})
}
