package main

import (
	"github.com/alecthomas/kong"

	"inceptor/internal/settings"
	"inceptor/service"
)

type configCmd struct {
	Show   configShowCmd   `cmd:"" default:"withargs" help:"Print the effective settings as YAML, and where each came from. Starts nothing."`
	Schema configSchemaCmd `cmd:"" help:"Print a JSON Schema of the configuration file, for editors."`
}

type configShowCmd struct {
	service.Config `embed:""`
}

// Help is the long help.
func (*configShowCmd) Help() string {
	return `The output can be used as a configuration file. Secrets are not shown. Mistakes are listed after ` +
		`the settings, on standard error, and the exit status is then 2. If a value or a key cannot be read, ` +
		`only the mistakes are printed.`
}

// Validate finds nothing: mistakes are listed after the settings.
func (*configShowCmd) Validate() []error { return nil }

func (c *configShowCmd) Run(k *kong.Context, a *app) error {
	if err := a.given.Show(a.stdout, k.Selected()); err != nil {
		return err
	}
	if a.given.Add(c.Config.Validate()); len(a.given.Problems) > 0 {
		return errRefused
	}
	return nil
}

type configSchemaCmd struct{ noSettings }

// Help is the long help.
func (*configSchemaCmd) Help() string {
	return `Editors with a YAML language server check a file against the schema, and suggest its keys, if the ` +
		`first line names it: # yaml-language-server: $schema=inceptor.schema.json`
}

func (*configSchemaCmd) Run(k *kong.Context, a *app) error {
	return settings.WriteSchema(a.stdout, k.Model, commandNode(k.Model, "run"))
}

// commandNode returns a command of the program.
func commandNode(m *kong.Application, name string) *kong.Node {
	for _, n := range m.Children {
		if n.Name == name {
			return n
		}
	}
	panic("no command " + name)
}
