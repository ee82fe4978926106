package main

import "strings"

// hints are what helps against errors of servers that run already, by what the error says: it may come from another process.
var hints = []struct{ says, helps string }{
	{"x509: ", "--insecure takes any certificate; SSL_CERT_FILE=… names a file with the authorities to trust"},
	{"first record does not look like a TLS handshake", "the server speaks no TLS there: ws:// or http://"},
	{"unexpected EOF", "if the server speaks TLS there, it is wss:// or https://"},
	{"/v1/instruments: EOF", "if the server speaks TLS there, it is wss:// or https://"},
	{"auth_required", "--token says who the clients are: a JWT, or a key that `tickwire key new` has made"},
	{"connection refused", "nothing listens there: the servers write to their --addr-file where they listen"},
}

// hint is a line on what to do about an error, or empty.
func hint(err error) string {
	if strings.Contains(err.Error(), "--") {
		return "" // it says so itself
	}
	for _, h := range hints {
		if strings.Contains(err.Error(), h.says) {
			return "\n  " + h.helps
		}
	}
	return ""
}
