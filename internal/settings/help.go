package settings

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// HelpAll is the flag --help-all. It prints the help of a command with all settings, while --help
// prints the common ones.
type HelpAll bool

// IgnoreDefault makes kong call BeforeReset only if the flag is given.
func (HelpAll) IgnoreDefault() {}

// BeforeReset prints the help and ends the program, as kong's own --help does.
func (HelpAll) BeforeReset(ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(helpOptions, ctx); err != nil {
		return err
	}
	ctx.Exit(0)
	return nil
}

var helpOptions = kong.HelpOptions{
	Compact: true, NoExpandSubcommands: true, WrapUpperBound: 110,
	ValueFormatter: func(v *kong.Value) string { return v.Help },
}

// Help makes --help print the common settings only.
func Help() kong.Option {
	return kong.OptionFunc(func(k *kong.Kong) error {
		if err := helpOptions.Apply(k); err != nil {
			return err
		}
		return kong.Help(printCommon).Apply(k)
	})
}

// printCommon prints the help of a command without its advanced settings, and without groups.
func printCommon(options kong.HelpOptions, ctx *kong.Context) error {
	node := ctx.Selected()
	if node == nil {
		node = ctx.Model.Node
	}
	common := &kong.Group{Key: "common", Title: "Common settings:"}
	all, hidden := 0, 0
	var flags []*kong.Flag // in one list, for kong puts an empty line between those of parents
	for n := node; n != nil; n = n.Parent {
		flags, n.Flags = append(slices.Clone(n.Flags), flags...), nil
	}
	node.Flags = flags
	for _, f := range flags {
		if !isSetting(f) {
			continue
		}
		all++
		f.Group = common
		if f.PlaceHolder == "" && f.Target.Kind() == reflect.String {
			f.PlaceHolder = f.Default // without quotes
		}
		if !IsCommon(f.Value) {
			f.Hidden = true
			hidden++
		}
	}
	if err := kong.DefaultHelpPrinter(options, ctx); err != nil || hidden == 0 {
		return err
	}
	name := strings.TrimSuffix(ctx.Model.Name+" "+node.Path(), " ")
	_, err := fmt.Fprintf(ctx.Stdout, "\n\"%s --help-all\" lists all %d settings.\n", name, all)
	return err
}

// isSetting tells whether a flag is a setting, and not an option of one command.
func isSetting(f *kong.Flag) bool { return strings.Contains(f.Name, ".") }
