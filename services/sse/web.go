package sse

import (
	"crypto/sha256"
	_ "embed" // for the module
	"encoding/hex"
	"strings"

	"github.com/valyala/fasthttp"
)

// moduleFile is the browsers' module. Its tests are in clients/browser.
//
//go:embed web/tickwire-sse.js
var moduleFile []byte

// moduleVersion changes with every byte of the module.
var moduleVersion = func() string {
	sum := sha256.Sum256(moduleFile)
	return hex.EncodeToString(sum[:8])
}()

const modulePath = "/tickwire-sse.js"

// How long the module may be used without asking. Its plain URL stays the same from release to release: an hour, and another
// day while a new one is being fetched, so that a page is never slowed down by it. With its version (?v=, the ETag without
// quotes) it never changes.
const (
	moduleCache    = "public, max-age=3600, stale-while-revalidate=86400"
	versionedCache = "public, max-age=31536000, immutable"
)

// module serves the browsers' module.
func (s *Server) module(ctx *fasthttp.RequestCtx) {
	h, etag := &ctx.Response.Header, `"`+moduleVersion+`"`
	h.Set(fasthttp.HeaderETag, etag)
	h.Set(fasthttp.HeaderCacheControl, moduleCache)
	if string(ctx.QueryArgs().Peek("v")) == moduleVersion {
		h.Set(fasthttp.HeaderCacheControl, versionedCache)
	}
	if matches(string(ctx.Request.Header.Peek(fasthttp.HeaderIfNoneMatch)), etag) {
		ctx.SetStatusCode(fasthttp.StatusNotModified)
		return
	}
	h.Set(fasthttp.HeaderXContentTypeOptions, "nosniff")
	ctx.SetContentType("text/javascript; charset=utf-8")
	ctx.SetBody(moduleFile)
}

// matches reads an If-None-Match (RFC 9110, 13.1.2).
func matches(header, etag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		part = strings.TrimSpace(part)
		if part == "*" || strings.TrimPrefix(part, "W/") == etag {
			return true
		}
	}
	return false
}
