package webhook

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// TestRotatedOnce repeats a request to rotate a secret while the first one is being done. All are told the same secret, and it
// is the one that signs.
func TestRotatedOnce(t *testing.T) {
	d := newDesk(t, nil)
	k, _ := d.tenant("acme")
	var e endpoint
	d.want(201, &e, "POST", "/v1/endpoints", `{"url":"https://example.com/"}`, k)
	num, err := store.ParseID(store.EndpointPrefix, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		told := make([]string, 8)
		var work sync.WaitGroup
		for n := range told {
			work.Go(func() {
				r := d.ask("POST", "/v1/endpoints/"+e.ID+"/rotate-secret", `{"overlap":"0s"}`, k, fmt.Sprint("Idempotency-Key: ", i))
				var got endpoint
				if err := json.Unmarshal(r.Body(), &got); err != nil || r.StatusCode() != 200 {
					t.Errorf("%d %s", r.StatusCode(), r.Body())
					return
				}
				told[n] = got.Secrets[0].Text
			})
		}
		work.Wait()
		now, err := d.st.Endpoint(t.Context(), num)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range told {
			if len(now.Secrets) != 1 || now.Secrets[0].Text != secret {
				t.Fatalf("somebody was told %s, of %d", secret, len(now.Secrets))
			}
		}
	}
}

// TestEndpointOfAlertDeleted: an alert whose endpoint is gone can be changed all the same.
func TestEndpointOfAlertDeleted(t *testing.T) {
	d := newDesk(t, nil)
	d.own()
	k, _ := d.tenant("acme")
	var e endpoint
	d.want(201, &e, "POST", "/v1/endpoints", `{"url":"https://example.com/"}`, k)
	var al alert
	d.want(201, &al, "POST", "/v1/alerts", strings.Replace(simple, "{", `{"endpoints":["`+e.ID+`"],`, 1), k)
	d.want(204, nil, "DELETE", "/v1/endpoints/"+e.ID, "", k)
	d.want(200, &al, "PATCH", "/v1/alerts/"+al.ID, `{"name":"new"}`, k)
	if al.Name != "new" {
		t.Error(al.Name)
	}
	d.problem(422, "invalid", "endpoints[0]", "PATCH", "/v1/alerts/"+al.ID, `{"endpoints":["`+e.ID+`"]}`, k)
}

// TestKeyOutlived: what expires can't make what does not.
func TestKeyOutlived(t *testing.T) {
	d := newDesk(t, nil)
	owner, _ := d.tenant("acme")
	var short, child key
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	d.want(201, &short, "POST", "/v1/keys", `{"name":"short","expires_at":"`+until.Format(time.RFC3339)+`"}`, owner)
	k := "Authorization: Bearer " + short.Secret
	d.problem(422, "invalid", "expires_at", "POST", "/v1/keys", `{"name":"x","expires_at":"2040-01-01T00:00:00Z"}`, k)
	d.want(201, &child, "POST", "/v1/keys", `{"name":"x"}`, k)
	if child.Expires == nil || *child.Expires != *short.Expires {
		t.Errorf("%+v", child)
	}
	d.want(201, nil, "POST", "/v1/keys", `{"name":"y","expires_at":"`+until.Add(-time.Minute).Format(time.RFC3339)+`"}`, k)
	d.want(201, &child, "POST", "/v1/keys", `{"name":"z"}`, owner)
	if child.Expires != nil {
		t.Errorf("%+v", child)
	}
}

// TestVerifiedOnlyByVerify: neither disabling nor a change while it is disabled makes an endpoint that has to be verified one
// that is enabled.
func TestVerifiedOnlyByVerify(t *testing.T) {
	d := newDesk(t, nil)
	k, _ := d.tenant("acme")
	var e endpoint
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
	}))
	defer server.Close()
	d.want(201, &e, "POST", "/v1/endpoints", `{"url":"`+server.URL+`","verification":"cloudevents"}`, k)
	path := "/v1/endpoints/" + e.ID
	d.want(200, &e, "POST", path+"/disable", "", k)
	d.problem(409, "conflict", "", "POST", path+"/enable", `{"held":"release"}`, k)
	d.want(200, &e, "POST", path+"/verify", "", k)
	if e.State != "enabled" {
		t.Fatal(e.State)
	}
	d.want(200, &e, "POST", path+"/disable", "", k)
	d.want(200, &e, "POST", path+"/enable", `{"held":"release"}`, k) // it has been verified
	d.want(200, &e, "POST", path+"/disable", "", k)
	d.want(200, &e, "PATCH", path, `{"url":"https://example.com/another"}`, k)
	d.problem(409, "conflict", "", "POST", path+"/enable", `{"held":"release"}`, k)
}

// TestAllMissed: whoever was away until nothing is kept any more is told so.
func TestAllMissed(t *testing.T) {
	d := newDesk(t, nil)
	own := d.own()
	k, _ := d.tenant("acme")
	var p eventPage
	d.want(200, &p, "GET", "/v1/events?after=0", "", k)
	if p.Missed != 0 || p.Next != 0 {
		t.Errorf("%+v", p)
	}
	var al alert
	d.want(201, &al, "POST", "/v1/alerts", simple, k)
	d.fire(own(), &al, 1000, 1, 2, 3)
	for n := 1; n > 0; {
		var err error
		if n, err = d.st.Purge(t.Context(), time.Now().Add(31*24*time.Hour), 100); err != nil {
			t.Fatal(err)
		}
	}
	d.want(200, &p, "GET", "/v1/events?after=1", "", k)
	if p.Missed != 2 || p.Next != 3 || len(p.Items) != 0 {
		t.Errorf("%+v", p)
	}
	d.want(200, &p, "GET", "/v1/events?after=3", "", k)
	if p.Missed != 0 || p.Next != 3 {
		t.Errorf("%+v", p)
	}
}

// TestSecretNumbers: a secret's number is one that no other process's can be, or it would take that one's row.
func TestSecretNumbers(t *testing.T) {
	d := newDesk(t, nil)
	node := func(n int64) int64 { return n & 1023 }
	for range 3 { // a number of chance would be right now and then
		if got, want := node(d.api.newSecret(store.SecretV1, time.Now()).Num), node(d.st.NewID()); got != want {
			t.Errorf("process %d, want %d", got, want)
		}
	}
}

// TestReadsOnFullDisk: who asks is answered also when it can't be noted that their key was used.
func TestReadsOnFullDisk(t *testing.T) {
	d := newDesk(t, nil)
	dir := t.TempDir()
	var err error
	if d.st, err = store.Open(t.Context(), store.Config{Dir: dir, Ephemeral: true}, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.st.Close() }()
	d.api.deps.Store = d.st
	k, _ := d.tenant("acme")
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "webhook.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), "CREATE TRIGGER full BEFORE UPDATE ON api_key BEGIN SELECT RAISE(FAIL, 'no room'); END"); err != nil {
		t.Fatal(err)
	}
	d.want(200, nil, "GET", "/v1/alerts", "", k)
}
