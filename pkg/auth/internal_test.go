package auth

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

const (
	setA = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`
	setB = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"b","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`
)

// TestRotation is the rhythm in which a set behind a URL is fetched. The set's load is replaced: a network knows no test's time.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fetches atomic.Int32
		var text atomic.Value
		text.Store("")
		var takes atomic.Int64
		reports := make(chan error, 10)
		k := newKeySet(&Config{JWKS: "https://issuer.example/jwks", Report: func(_ string, err error) { reports <- err }})
		k.load = func(ctx context.Context) ([]byte, bool, error) {
			fetches.Add(1)
			select {
			case <-time.After(time.Duration(takes.Load())):
			case <-ctx.Done():
			}
			return []byte(text.Load().(string)), true, nil
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { k.follow(ctx) })
		f := func(kid string, want error, fetched int32) {
			t.Helper()
			if _, err := k.find(ctx, kid); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", kid, err, want)
			}
			if n := fetches.Load(); n != fetched {
				t.Errorf("%d fetches, want %d", n, fetched)
			}
		}
		time.Sleep(time.Second)
		f("a", ErrUnavailable, 1) // bad so far, and asked for a moment ago
		text.Store(setA)
		time.Sleep(10 * time.Second)
		f("a", nil, 2)
		f("b", ErrUnavailable, 2)
		time.Sleep(10 * time.Second)
		f("b", ErrUnknown, 3)
		text.Store(setB)
		f("b", ErrUnavailable, 3) // not each time
		time.Sleep(10 * time.Second)
		f("b", nil, 4)
		f("a", ErrUnavailable, 4) // rotated away
		time.Sleep(5*time.Minute + time.Second)
		f("b", nil, 5)
		takes.Store(int64(2 * time.Second))
		time.Sleep(10 * time.Second)
		begin := time.Now()
		f("c", ErrUnavailable, 6)
		if d := time.Since(begin); d != unknownWait {
			t.Errorf("waited %v for a slow issuer", d)
		}
		text.Store("nonsense")
		time.Sleep(20 * time.Second)
		f("d", ErrUnavailable, 7)
		time.Sleep(3 * time.Second)
		f("b", nil, 7) // what was good stays
		if len(reports) != 3 || <-reports == nil || <-reports != nil || <-reports == nil {
			t.Error("not one report for each change")
		}
		stop()
		running.Wait()
	})
}

func FuzzKeySet(f *testing.F) {
	f.Add(setA)
	f.Add(`{"keys":[{"kty":"RSA","kid":"r","n":"AQAB","e":"AQAB"},{"kty":"EC","crv":"P-256","kid":"e","x":"AA","y":"AA"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := parseKeySet([]byte(text))
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for kid, k := range keys {
			if kid == "" || k.alg == "" || k.public == nil {
				t.Errorf("%q: %+v", kid, k)
			}
		}
	})
}

// TestMatch compares with regular expressions.
func TestMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		glob := rapid.StringOfN(rapid.SampledFrom([]rune("ab**-")), 0, 8, -1).Draw(t, "glob")
		s := rapid.StringOfN(rapid.SampledFrom([]rune("ab-")), 0, 10, -1).Draw(t, "s")
		want := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(glob), `\*`, ".*") + "$").MatchString(s)
		if match(glob, s) != want {
			t.Fatalf("%q matches %q: %v", glob, s, !want)
		}
	})
}
