package sse

import (
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/services/internal/rest"
)

// handle answers a request.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	s.cors(ctx)
	path := string(ctx.Path())
	defer func(begin time.Time) { s.served.Note(ctx, routeOf(path), begin) }(time.Now())
	if !s.seat(ctx) {
		return
	}
	defer s.rise(ctx)
	if ctx.IsOptions() {
		preflight(ctx)
		return
	}
	if path == "/v1/ticket" {
		s.giveTicket(ctx)
		return
	}
	if !ctx.IsGet() && !ctx.IsHead() {
		h.Set("Allow", "GET, HEAD, OPTIONS")
		rest.Fail(ctx, rest.Problem{Status: fasthttp.StatusMethodNotAllowed, Code: "bad_request", Detail: "only GET, HEAD and OPTIONS"})
		return
	}
	switch {
	case strings.HasPrefix(path, "/v1/sse/"):
		s.stream(ctx, strings.TrimPrefix(path, "/v1/sse/"))
	case strings.HasPrefix(path, "/v1/"):
		s.rest(ctx, strings.TrimPrefix(path, "/v1/"))
	default:
		s.page(ctx, path)
	}
}

// preflight answers what a browser asks before it sends a request with headers of its own.
func preflight(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS") // POST is for tickets
	h.Set("Access-Control-Allow-Headers", "Authorization, Last-Event-ID, If-None-Match, Cache-Control, Content-Type")
	h.Set("Access-Control-Max-Age", "86400")
	ctx.SetStatusCode(fasthttp.StatusNoContent)
}

// page serves what is not the API: the OpenAPI document and the browsers' module.
func (s *Server) page(ctx *fasthttp.RequestCtx, path string) {
	switch path {
	case openapiPath:
		s.present(ctx, s.openapi, "application/yaml")
	case modulePath:
		s.module(ctx)
	default:
		notFound(ctx)
	}
}

func notFound(ctx *fasthttp.RequestCtx) {
	rest.Fail(ctx, rest.Problem{Status: fasthttp.StatusNotFound, Code: "bad_request", Detail: "there is nothing here; /v1/streams lists what there is"})
}

// routeOf is the route that a path belongs to: there are few, whatever peers ask for.
func routeOf(path string) string {
	if rest, ok := strings.CutPrefix(path, "/v1/"); ok {
		if e, _ := endpointOf(rest); e != nil {
			return e.path
		}
	}
	if base, ok := strings.CutPrefix(path, "/v1/sse/"); ok {
		name, _ := strings.CutSuffix(base, "/all")
		if _, ok := streamed[name]; ok {
			return "/v1/sse/" + name
		}
	}
	switch path {
	case openapiPath, modulePath, "/v1/ticket":
		return path
	}
	return "other"
}
