package sse

import "github.com/valyala/fasthttp"

// rest answers a request for /v1/{name}.
func (s *Server) rest(ctx *fasthttp.RequestCtx, _ string) { notFound(ctx) }
