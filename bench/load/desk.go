package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tickwire/tickwire/bench/deployment"
	"github.com/tickwire/tickwire/bench/schedule"
	"github.com/tickwire/tickwire/pkg/signature"
)

// desk makes endpoints and alerts by the API, and takes them away again.
type desk struct {
	url       string
	token     string
	client    *http.Client
	endpoints []string // ids
	alerts    []string // ids
}

func newDesk(d *deployment.Deployment) *desk {
	return &desk{
		url: strings.TrimSuffix(d.Alerts, "/"), token: d.Token,
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: d.TLS(), MaxIdleConnsPerHost: 8}},
	}
}

// patience is how long the API may refuse what may pass: it limits requests, and has only just heard of an instrument.
const patience = 30 * time.Second

// refusal is an answer that will not become better.
type refusal struct {
	what   string
	status int
	text   string
}

func (r *refusal) Error() string {
	hint := ""
	if r.status == http.StatusUnauthorized || r.status == http.StatusForbidden {
		hint = " (--token: an API key of a tenant)"
	}
	return fmt.Sprintf("%s: status %d: %.300s%s", r.what, r.status, r.text, hint)
}

// call calls the API, again while it says that it has no time.
func (d *desk) call(ctx context.Context, method, path string, body, into any) error {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(patience); ; {
		again, err := d.attempt(ctx, method, path, content, into)
		if err == nil || again == 0 || time.Now().Add(again).After(deadline) {
			return err
		}
		if err := schedule.Pause(ctx, again); err != nil {
			return err
		}
	}
}

// attempt calls the API once; again is when one more attempt may help.
func (d *desk) attempt(ctx context.Context, method, path string, body []byte, into any) (again time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, method, d.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	res, err := d.client.Do(req)
	if err != nil {
		return 0, err
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	_ = res.Body.Close() // only read
	switch {
	case err != nil:
		return 0, err
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusServiceUnavailable:
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After")) // 0 when it does not say
		again = max(time.Duration(seconds)*time.Second, 50*time.Millisecond)
	}
	if res.StatusCode >= 300 {
		return again, &refusal{what: method + " " + path, status: res.StatusCode, text: string(text)}
	}
	if into == nil || len(text) == 0 {
		return 0, nil
	}
	return 0, json.Unmarshal(text, into)
}

// endpoint makes one that sends to the inbox's path, at most so many requests at a time.
func (d *desk) endpoint(ctx context.Context, in *inbox, path string, inFlight int) (id string, err error) {
	var made struct {
		ID      string
		Secrets []struct{ Secret string }
	}
	err = d.call(ctx, http.MethodPost, "/v1/endpoints", map[string]any{
		"url": in.url + path, "max_in_flight": inFlight, "event_types": []string{"alert.fired"}, "description": "tickwire-bench",
	}, &made)
	if r, ok := errors.AsType[*refusal](err); ok && r.status == http.StatusUnprocessableEntity {
		return "", fmt.Errorf("the service refuses our receiver, %s: %w: %s", in.url, err, mayCall)
	}
	if err != nil {
		return "", err
	}
	d.endpoints = append(d.endpoints, made.ID)
	if len(made.Secrets) == 0 {
		return "", errors.New("POST /v1/endpoints: an endpoint without a secret")
	}
	secret, err := signature.ParseSecret(made.Secrets[0].Secret)
	if err != nil {
		return "", err
	}
	in.open(path, &signature.Verifier{Keys: []signature.Checker{secret}})
	return made.ID, nil
}

// mayCall is what a deployment needs that is to call our receiver.
const mayCall = "the deployment must allow its address (--webhook-allow-nets) and port (--webhook-allow-ports), and reach it there; " +
	"--receive says where the receiver listens, --receive-url what the service calls"

// try has the service send a request to an endpoint, and says what may be wrong if it does not arrive.
func (d *desk) try(ctx context.Context, in *inbox, id string) error {
	var tried struct {
		OK    bool
		Error string
	}
	if err := d.call(ctx, http.MethodPost, "/v1/endpoints/"+id+"/test", map[string]any{}, &tried); err != nil {
		return err
	}
	if !tried.OK {
		return fmt.Errorf("the service can't send to our receiver, %s: %s: %s", in.url, tried.Error, mayCall)
	}
	return nil
}

// wanted is an alert that is to be made.
type wanted struct {
	Sym       string   `json:"sym"`
	Endpoints []string `json:"endpoints"`
	Rule      rule     `json:"rule"`
}

type rule struct {
	Series string `json:"series"`
	Op     string `json:"op"`
	Limit  string `json:"limit"`
	Mode   string `json:"mode"`
}

// crossing is what all alerts of ours wait for; trades are at low or at high.
var crossing = rule{Series: "last", Op: "crosses_above", Limit: "100.00", Mode: "recurring"}

const (
	low  = "99.00"
	high = "101.00"
)

// rows is how many alerts one request may make.
const rows = 1000

// make makes alerts, and waits until each counts.
func (d *desk) make(ctx context.Context, all []wanted) error {
	var pending []string
	deadline := time.Now().Add(patience)
	for len(all) > 0 {
		n := min(len(all), rows)
		var answer struct {
			Results []struct {
				Status int
				Alert  struct{ ID, State string }
				Error  json.RawMessage
			}
		}
		if err := d.call(ctx, http.MethodPost, "/v1/alerts", map[string]any{"alerts": all[:n]}, &answer); err != nil {
			return err
		}
		if len(answer.Results) != n {
			return fmt.Errorf("POST /v1/alerts: %d answers to %d alerts", len(answer.Results), n)
		}
		var left []wanted
		for i, r := range answer.Results {
			switch unknown := r.Status == http.StatusNotFound; { // the service has only just heard of its instruments
			case r.Status < 300:
				d.alerts = append(d.alerts, r.Alert.ID)
				if r.Alert.State == "pending" {
					pending = append(pending, r.Alert.ID)
				}
			case unknown && time.Now().Before(deadline):
				left = append(left, all[i])
			default:
				return &refusal{what: "POST /v1/alerts", status: r.Status, text: string(r.Error)}
			}
		}
		all = append(left, all[n:]...)
		if len(left) > 0 {
			if err := schedule.Pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return d.active(ctx, pending, deadline)
}

// active waits until none of the alerts is pending.
func (d *desk) active(ctx context.Context, pending []string, deadline time.Time) error {
	for _, id := range pending {
		for {
			var a struct{ State string }
			if err := d.call(ctx, http.MethodGet, "/v1/alerts/"+id, nil, &a); err != nil {
				return err
			}
			if a.State != "pending" {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("alert %s has been pending for %v", id, patience)
			}
			if err := schedule.Pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// clear takes away what was made.
func (d *desk) clear(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	remove := func(path string, ids []string) error {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(4)
		for _, id := range ids {
			group.Go(func() error {
				err := d.call(ctx, http.MethodDelete, path+id, nil, nil)
				if r, ok := errors.AsType[*refusal](err); ok && r.status == http.StatusNotFound {
					return nil // gone already
				}
				return err
			})
		}
		return group.Wait()
	}
	defer d.client.CloseIdleConnections()
	if err := errors.Join(remove("/v1/alerts/", d.alerts), remove("/v1/endpoints/", d.endpoints)); err != nil {
		return fmt.Errorf("take away what the load had made: %w", err)
	}
	return nil
}
