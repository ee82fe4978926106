package signature_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/signature"
)

// The example of the Standard Webhooks libraries' own tests.
const (
	exampleSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" //nolint:gosec // public
	exampleID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	exampleTime      = 1614265330
	exampleBody      = `{"test": 2432232314}`
	exampleSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func secret(t testing.TB, text string) signature.Secret {
	t.Helper()
	s, err := signature.ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKnownVector(t *testing.T) {
	m := signature.Message{ID: exampleID, At: time.Unix(exampleTime, 0), Body: []byte(exampleBody)}
	got, err := signature.Sign(m, secret(t, exampleSecret))
	if err != nil || got != exampleSignature {
		t.Errorf("%s, %v", got, err)
	}
	if text := secret(t, strings.TrimPrefix(exampleSecret, "whsec_")).Text(); text != exampleSecret {
		t.Error(text)
	}
}

func TestVerify(t *testing.T) {
	now := time.Unix(1_795_000_000, 0)
	old, fresh, foreign := signature.NewSecret(), signature.NewSecret(), signature.NewSecret()
	private := signature.NewPrivateKey()
	m := signature.Message{ID: "evt_1", At: now, Body: []byte(`{"id":"evt_1"}`)}
	v := signature.Verifier{Keys: []signature.Checker{old, private.Public()}, Now: func() time.Time { return now }}
	sign := func(m signature.Message, keys ...signature.Key) string {
		t.Helper()
		s, err := signature.Sign(m, keys...)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	f := func(what, id, timestamp, signatures, body string, want error) {
		t.Helper()
		at, err := v.Verify(id, timestamp, signatures, []byte(body))
		if !errors.Is(err, want) || want == nil && !at.Equal(now) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	const ts, body = "1795000000", `{"id":"evt_1"}`
	good := sign(m, old)
	f("good", "evt_1", ts, good, body, nil)
	f("while the secret is replaced", "evt_1", ts, sign(m, fresh, old), body, nil)
	f("by the private key", "evt_1", ts, sign(m, private), body, nil)
	f("by both", "evt_1", ts, sign(m, foreign, private), body, nil)
	f("behind what later versions add", "evt_1", ts, "v2,### v1 v1, "+good, body, nil)
	f("by another", "evt_1", ts, sign(m, foreign, signature.NewPrivateKey()), body, signature.ErrNoMatch)
	f("as another version", "evt_1", ts, "v1a"+strings.TrimPrefix(good, "v1"), body, signature.ErrNoMatch)
	f("altered body", "evt_1", ts, good, body+" ", signature.ErrNoMatch)
	f("altered id", "evt_2", ts, good, body, signature.ErrNoMatch)
	f("altered time", "evt_1", "1795000001", good, body, signature.ErrNoMatch)
	f("dots moved", "evt_1.1795000000", ts, good, body, signature.ErrNoMatch)
	f("no id", "", ts, good, body, signature.ErrMissing)
	f("no signature", "evt_1", ts, "", body, signature.ErrMissing)
	f("no time", "evt_1", "", good, body, signature.ErrMissing)
	f("a time that is none", "evt_1", "+1795000000", good, body, signature.ErrTimestamp)
	f("a time that is none", "evt_1", "1795000000.0", good, body, signature.ErrTimestamp)
	f("the right one comes too late", "evt_1", ts, strings.Repeat("v1,AAAA ", 100)+good, body, signature.ErrNoMatch)
	for seconds, want := range map[int64]error{-300: nil, -301: signature.ErrTooOld, 300: nil, 301: signature.ErrTooNew} {
		m := m
		m.At = now.Add(time.Duration(seconds) * time.Second)
		if _, err := v.Verify("evt_1", fmt.Sprint(m.At.Unix()), sign(m, old), []byte(body)); !errors.Is(err, want) {
			t.Errorf("%d s: %v, want %v", seconds, err, want)
		}
	}
	if _, err := new(signature.Verifier).Verify("evt_1", fmt.Sprint(time.Now().Unix()), good, []byte(body)); !errors.Is(err, signature.ErrNoMatch) {
		t.Errorf("a verifier without keys: %v", err)
	}
	none := signature.Verifier{Keys: []signature.Checker{signature.Secret{}, signature.PublicKey{}}, Tolerance: -1}
	if _, err := none.Verify("evt_1", ts, good, []byte(body)); !errors.Is(err, signature.ErrNoMatch) {
		t.Errorf("keys that are none: %v", err)
	}
}

func TestKeys(t *testing.T) {
	k := signature.NewPrivateKey()
	again, err := signature.ParsePrivateKey(k.Text())
	if err != nil || again.Text() != k.Text() {
		t.Errorf("%v", err)
	}
	public, err := signature.ParsePublicKey(k.Public().Text())
	if err != nil || public.Text() != k.Public().Text() {
		t.Errorf("%v", err)
	}
	s := signature.NewSecret()
	for _, text := range []string{fmt.Sprint(s, k), fmt.Sprintf("%+v %#v %+v %#v", s, s, k, k)} {
		if strings.Contains(text, strings.TrimPrefix(s.Text(), "whsec_")) || strings.Contains(text, strings.TrimPrefix(k.Text(), "whsk_")) {
			t.Errorf("a secret is printed: %s", text)
		}
	}
	for _, text := range []string{"", "whsec_", "whsec_c2hvcnQ=", "whsec_%%%", "whsk_AAAA", "whpk_AAAA", "whsec_" + strings.Repeat("A", 100)} {
		if _, err := signature.ParseSecret(text); err == nil {
			t.Errorf("secret %q", text)
		}
		if _, err := signature.ParsePrivateKey(text); err == nil {
			t.Errorf("private key %q", text)
		}
		if _, err := signature.ParsePublicKey(text); err == nil {
			t.Errorf("public key %q", text)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	for _, id := range []string{"", "a.b", "a b", "a\nb", "a\x00"} {
		if _, err := signature.Sign(signature.Message{ID: id}, signature.NewSecret()); !errors.Is(err, signature.ErrID) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := signature.Sign(signature.Message{ID: "a"}); err == nil {
		t.Error("signed without a key")
	}
}

// TestCompat has values that OpenSSL computed: printf '%s' TEXT | openssl dgst -sha256 -hmac it_is_a_secret.
func TestCompat(t *testing.T) {
	at, body := time.Unix(1_795_000_000, 0), []byte(`{"id":"evt_1"}`)
	f := func(got []signature.Header, want ...signature.Header) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("%v", got)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%v, want %v", got[i], want[i])
			}
		}
	}
	const key = "it_is_a_secret"
	f(signature.Stripe(key, at, body), signature.Header{Name: "Stripe-Signature", Value: "t=1795000000,v1=a3f72d91b5759325682c8c5bca6ba456c62b0c949aab4478321d64ebde072fcc"})
	f(signature.GitHub(key, at, body), signature.Header{Name: "X-Hub-Signature-256", Value: "sha256=9413cb55f842477b90afb2f25a4c64337d75a18835725c335b6629c6e5858660"})
	f(signature.Slack(key, at, body),
		signature.Header{Name: "X-Slack-Request-Timestamp", Value: "1795000000"}, signature.Header{Name: "X-Slack-Signature", Value: "v0=c8db8311a941577017c0f7d7eafd1fd08641ff0d647092e35aaa7c1e4d6215da"})
	f(signature.Razorpay(key, at, body), signature.Header{Name: "X-Razorpay-Signature", Value: "9413cb55f842477b90afb2f25a4c64337d75a18835725c335b6629c6e5858660"})
}

func FuzzVerify(f *testing.F) {
	s, k := signature.NewSecret(), signature.NewPrivateKey()
	v := signature.Verifier{Keys: []signature.Checker{s, k.Public()}, Tolerance: -1}
	good, err := signature.Sign(signature.Message{ID: "a", At: time.Unix(1, 0), Body: []byte("b")}, s, k)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("a", "1", good, []byte("b"))
	f.Add("a", "1", "v1,AAAA v1a,AAAA", []byte("b"))
	f.Fuzz(func(t *testing.T, id, timestamp, signatures string, body []byte) {
		if _, err := v.Verify(id, timestamp, signatures, body); err == nil && (id != "a" || timestamp != "1" || string(body) != "b") {
			t.Fatalf("accepted %q %q %q %q", id, timestamp, signatures, body)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	m := signature.Message{ID: "evt_2KWPBgLlAfxdpx2AI54pPJ85f4W", At: time.Unix(1_795_000_000, 0), Body: []byte(strings.Repeat("x", 400))}
	for name, key := range map[string]signature.Key{"v1": signature.NewSecret(), "v1a": signature.NewPrivateKey()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := signature.Sign(m, key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func ExampleVerifier() {
	secret, err := signature.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		panic(err)
	}
	v := signature.Verifier{Keys: []signature.Checker{secret}, Now: func() time.Time { return time.Unix(1614265360, 0) }}
	// In a handler: r.Header.Get(signature.HeaderID), and so on, and the body as it was read.
	at, err := v.Verify("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", []byte(`{"test": 2432232314}`))
	fmt.Println(at.UTC(), err)
	// Output: 2021-02-25 15:02:10 +0000 UTC <nil>
}
