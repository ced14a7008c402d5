package main

import (
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"inceptor/internal/settings"
)

type helpCmd struct {
	noSettings

	Command []string `arg:"" optional:"" help:"Command to show the help of." placeholder:"COMMAND"`
}

func (c *helpCmd) Run(a *app) error {
	if code := run(append(c.Command, "--help"), a.stdout, a.stderr); code != 0 {
		return errRefused
	}
	return nil
}

type completionCmd struct {
	noSettings

	Shell string `arg:"" enum:"bash, zsh, fish, powershell" help:"Shell: ${enum}." placeholder:"SHELL"`
}

// Help is the long help.
func (*completionCmd) Help() string {
	return `The script completes commands, flags, their values and files. The first line of the script says how ` +
		`to load it. For bash, add this to ~/.bashrc:

	source <(inceptor completion bash)`
}

func (c *completionCmd) Run(k *kong.Context, a *app) error {
	return settings.WriteCompletion(a.stdout, c.Shell, k.Model.Name)
}

// A completeCmd is what the completion scripts call.
type completeCmd struct {
	noSettings

	Words []string `arg:"" optional:"" help:"Words of the command line after the program's name."`
}

func (c *completeCmd) Run(k *kong.Context, a *app) error {
	_, err := io.WriteString(a.stdout, strings.Join(append(settings.Complete(k.Model, c.Words), ""), "\n"))
	return err
}

type manCmd struct{ noSettings }

// Help is the long help.
func (*manCmd) Help() string {
	return `Read it, or install it:

	inceptor man | man -l -
	inceptor man >/usr/local/share/man/man1/inceptor.1`
}

func (*manCmd) Run(k *kong.Context, a *app) error {
	return settings.WriteManual(a.stdout, k.Model, k.Model.Name+" "+version,
		"classify a Kafka topic of images with a TensorFlow model")
}
