package sse

import "github.com/valyala/fasthttp"

// stream answers a request for /v1/sse/{name}.
func (s *Server) stream(ctx *fasthttp.RequestCtx, _ string) { notFound(ctx) }
