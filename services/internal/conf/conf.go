// Package conf turns flags and environment variables into the services' Config structs.
//
// Every flag can also be set by an environment variable: TICKWIRE_ and the flag's name in upper case, with underscores
// for dashes. A flag on the command line wins over the environment.
package conf

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// EnvPrefix begins the name of every environment variable that sets a flag.
const EnvPrefix = "TICKWIRE_"

// EnvName returns the environment variable that sets the flag.
func EnvName(flag string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// FromEnv sets each flag that the command line left alone from its environment variable, if that is present. An error
// names the variable and the flag.
func FromEnv(fs *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var err error
	fs.VisitAll(func(f *pflag.Flag) {
		if err != nil || f.Changed || f.Name == "help" {
			return
		}
		value, ok := lookup(EnvName(f.Name))
		if !ok {
			return
		}
		if e := fs.Set(f.Name, value); e != nil {
			err = fmt.Errorf("environment variable %s (flag --%s): %w", EnvName(f.Name), f.Name, e)
		}
	})
	return err
}
