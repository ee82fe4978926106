// Package services is the root of the module that holds Tickwire's processes. Each process is a package of its own with
// Config, New and Run; cmd/tickwire puts them behind subcommands. The test in this folder holds the import rules.
package services
