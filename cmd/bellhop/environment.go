package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	// variablePrefix begins the environment variables of serve.
	variablePrefix = "BELLHOP_"
	// toolCache is the cache of test/tools, which a developer may set for make: no setting of serve, and no misspelt one.
	toolCache = "BELLHOP_CACHE"
)

// variable is the environment variable of a flag: --key-file is BELLHOP_KEY_FILE.
func variable(flag *pflag.Flag) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
}

// fromEnvironment sets each flag that was not given from its environment variable. A variable with our prefix that is
// no flag's is an error: it is most likely misspelt.
func fromEnvironment(flags *pflag.FlagSet, environ []string) error {
	byVariable := map[string]*pflag.Flag{}
	flags.VisitAll(func(flag *pflag.Flag) { byVariable[variable(flag)] = flag })
	var errs []error
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		flag, known := byVariable[name]
		switch {
		case !strings.HasPrefix(name, variablePrefix) || name == toolCache || ofKubernetes(name):
		case !known:
			errs = append(
				errs,
				fmt.Errorf("%s is no setting of bellhop serve%s; see bellhop serve --help", name, resembling(name, byVariable)),
			)
		case flag.Changed: // the command line wins
		default:
			if err := flags.Set(flag.Name, text); err != nil {
				errs = append(errs, fmt.Errorf("%s=%s: %w", name, text, err))
			}
		}
	}
	return errors.Join(errs...)
}

// ofKubernetes reports whether Kubernetes sets a variable in every container, for a Service whose name is bellhop or
// begins with bellhop- (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
func ofKubernetes(name string) bool {
	const ofService = `^BELLHOP(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`
	return regexp.MustCompile(ofService).MatchString(name)
}

// resembling names the flag that a misspelt variable resembles, by cobra's own measure.
func resembling(name string, byVariable map[string]*pflag.Flag) string {
	const distance = 4 // edits
	known := &cobra.Command{SuggestionsMinimumDistance: distance}
	for variable := range byVariable {
		known.AddCommand(&cobra.Command{Use: variable, Run: func(*cobra.Command, []string) {}})
	}
	suggestions := known.SuggestionsFor(name)
	if len(suggestions) == 0 {
		return ""
	}
	return fmt.Sprintf("; did you mean %s (--%s)?", suggestions[0], byVariable[suggestions[0]].Name)
}
