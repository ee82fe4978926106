// Package verifiers has other people's libraries verify our webhooks. README.md says which, and what each needs.
package verifiers
