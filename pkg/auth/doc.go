// Package auth decides who a client is and what it may have.
//
// A client shows a token: a JWT that somebody else signed, or an API key of which a file holds the hash. Both become a
// [Grant], and [Grant.Allows] is the one question that every data path asks before it hands anything out. An [Authority] knows
// the signing keys and the key file, and follows both while they change.
//
// A token is a secret: it is in no error of this package, in no log line and in no metric. What the libraries underneath say
// about a bad token may quote it, so it is dropped; a [Refusal] is one of a few fixed texts.
package auth
