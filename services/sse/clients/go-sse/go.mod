module github.com/tickwire/tickwire/services/sse/clients/go-sse

go 1.26.0

require github.com/tmaxmax/go-sse v0.12.0
