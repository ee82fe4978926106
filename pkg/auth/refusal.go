package auth

// Refusal says why a token is not taken. There are only the ones below; compare with errors.Is.
type Refusal struct {
	Result string // one word, for metrics
	msg    string
}

// Error says it in words for the client.
func (r *Refusal) Error() string { return r.msg }

// The refusals.
var (
	ErrMalformed = &Refusal{"malformed", "this is no token that is understood here"}
	ErrAlgorithm = &Refusal{"algorithm", "the token's algorithm is not allowed, or not the one of its key"}
	ErrNoKeyID   = &Refusal{"no_kid", "the token does not say by which key it is signed (kid)"}
	ErrUnknown   = &Refusal{"unknown", "the token's key is not known"}
	ErrSignature = &Refusal{"signature", "the token's signature is not valid, or of an algorithm that is not allowed here"}
	ErrExpired   = &Refusal{"expired", "the token has expired"}
	ErrTooEarly  = &Refusal{"early", "the token is not valid yet"}
	ErrIssuer    = &Refusal{"issuer", "the token is not of the expected issuer"}
	ErrAudience  = &Refusal{"audience", "the token is meant for another audience"}
	ErrClaims    = &Refusal{"claims", "the token's claims are incomplete or can't be used"}
	ErrRevoked   = &Refusal{"revoked", "the key has been revoked"}
	// ErrUnavailable means that the token may be good: its signing key may be one that is not known here yet. Trying again
	// after RetryAfter helps then.
	ErrUnavailable = &Refusal{"unavailable", "the signing keys are being fetched; try again in some seconds"}
)

// Refusals lists all of them, so that metrics can begin at 0.
func Refusals() []*Refusal {
	return []*Refusal{
		ErrMalformed, ErrAlgorithm, ErrNoKeyID, ErrUnknown, ErrSignature, ErrExpired, ErrTooEarly, ErrIssuer, ErrAudience,
		ErrClaims, ErrRevoked, ErrUnavailable,
	}
}
