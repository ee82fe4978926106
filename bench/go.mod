module github.com/tickwire/tickwire/bench

go 1.26

require (
	github.com/tickwire/tickwire/pkg v0.0.0
	github.com/tickwire/tickwire/services v0.0.0
)

replace (
	github.com/tickwire/tickwire/pkg => ../pkg
	github.com/tickwire/tickwire/services => ../services
)
