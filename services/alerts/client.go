// Package alerts is the alerts API as a person in a terminal uses it: `tickwire alert` makes, lists and deletes alerts,
// `tickwire listen` is a receiver of webhooks on this machine.
//
// Whatever comes from a server or in a webhook may have been written by anyone. It is printed with everything escaped that is
// not plainly visible, so that it can't command the terminal.
package alerts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

// API says where the alerts API is, and who asks.
type API struct {
	Addr   string // host:port, or an http:// or https:// URL
	Key    string // empty: for a server that needs none
	Tenant string // whose alerts, when Key is the admin token
}

func defaultAPI() API { return API{Addr: "127.0.0.1:8082"} }

func (c *API) registerFlags(fs *pflag.FlagSet) {
	fs.StringVar(&c.Addr, "addr", c.Addr, "`ADDRESS` of the alerts API: host:port, or an http:// or https:// URL")
	fs.StringVar(&c.Key, "key", c.Key, "API `KEY` (tw_live_…) for a server that asks for one; on a shared machine rather by TICKWIRE_KEY, where ps does not show it")
	fs.StringVar(&c.Tenant, "tenant", c.Tenant, "`ID` of the tenant, when the key is the admin token")
}

// UsageError is a command line that can't be run as it stands.
type UsageError struct{ error }

func wrong(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

const (
	requestTimeout = 30 * time.Second
	maxAnswer      = 64 << 20
)

// problem is an error that the API has answered with.
type problem struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Param  string `json:"param"`
}

func (p *problem) Error() string {
	text := visible(p.Detail)
	if p.Param != "" {
		text = visible(p.Param) + ": " + text
	}
	switch p.Code {
	case "auth_required":
		return "the server wants to know who asks: give an API key by --key or TICKWIRE_KEY"
	case "auth_failed":
		return "the server does not take the key of --key or TICKWIRE_KEY: " + text
	}
	return text
}

// base is the URL of the API.
func (c *API) base() (string, error) {
	text := c.Addr
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", wrong("--addr: %q is neither host:port nor an http:// or https:// URL", c.Addr)
	}
	return u.Scheme + "://" + u.Host, nil
}

// ask makes a request; into gets the answer's body, if it is not nil.
func (c *API) ask(ctx context.Context, method, path string, body, into any) error {
	base, err := c.base()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var text io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		text = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, text)
	if err != nil {
		return wrong("%v", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Key != "" {
		req.Header.Set("Authorization", "Bearer "+c.Key)
	}
	if c.Tenant != "" {
		req.Header.Set("Tickwire-Tenant", c.Tenant)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return unreachable(base, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return unreachable(base, err)
	}
	if resp.StatusCode >= 300 {
		p := new(problem)
		if json.Unmarshal(answer, p) != nil || p.Code == "" {
			return fmt.Errorf("%s does not look like Tickwire's alerts API: it answers %s; --addr says where that is", base, visible(resp.Status))
		}
		return p
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("%s does not look like Tickwire's alerts API: %s", base, visible(err.Error()))
	}
	return nil
}

// unreachable says in a person's words that nobody answers.
func unreachable(base string, err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens at %s: is `tickwire all` or `tickwire webhook` running? --addr says where", base)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s has not answered within %v", base, requestTimeout)
	}
	return fmt.Errorf("reach %s: %w", base, err)
}
