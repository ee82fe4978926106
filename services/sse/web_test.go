package sse

import (
	"bytes"
	"testing"

	"github.com/valyala/fasthttp"
)

func TestModule(t *testing.T) {
	s := newEvents(t).prepare(nil).s
	get := func(uri string, headers ...string) *fasthttp.Response {
		t.Helper()
		return get(t, s, uri, headers...)
	}
	f := func(r *fasthttp.Response, status int, body []byte, cache string) {
		t.Helper()
		if r.StatusCode() != status || !bytes.Equal(r.Body(), body) {
			t.Errorf("status %d with %d bytes, want %d with %d", r.StatusCode(), len(r.Body()), status, len(body))
		}
		if got := string(r.Header.Peek("Cache-Control")); got != cache {
			t.Errorf("Cache-Control: %q, want %q", got, cache)
		}
		if got := string(r.Header.Peek("Access-Control-Allow-Origin")); got != "*" {
			t.Errorf("Access-Control-Allow-Origin: %q", got)
		}
	}
	plain := get("/tickwire-sse.js")
	f(plain, 200, moduleFile, moduleCache)
	if got := string(plain.Header.ContentType()); got != "text/javascript; charset=utf-8" {
		t.Errorf("Content-Type: %q", got)
	}
	etag := string(plain.Header.Peek("ETag"))
	f(get("/tickwire-sse.js?v="+moduleVersion), 200, moduleFile, versionedCache)
	f(get("/tickwire-sse.js?v=older"), 200, moduleFile, moduleCache)
	f(get("/tickwire-sse.js", `If-None-Match: "x", W/`+etag), 304, nil, moduleCache)
	f(get("/tickwire-sse.js", "If-None-Match: *"), 304, nil, moduleCache)
	f(get("/tickwire-sse.js", `If-None-Match: "x"`), 200, moduleFile, moduleCache)
}
