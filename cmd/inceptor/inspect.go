package main

import (
	"context"
	"encoding/json"
	"errors"

	"inceptor/savedmodel"
)

type inspectCmd struct {
	Dir  string `arg:"" help:"Directory of the version: the one that holds saved_model.pb." placeholder:"DIR"`
	JSON bool   `name:"json" help:"Print JSON."`

	Variables bool `help:"List every variable, not only the largest."`
}

// Help is the long help.
func (*inspectCmd) Help() string {
	return `Lists tags, signatures, variables, assets, warm-up requests and the digest, and names every file that is missing or short. ` +
		`Exit status 1 if the version is incomplete: "inceptor run" would not take it.`
}

func (c *inspectCmd) Run(a *app) error {
	info, err := savedmodel.Inspect(c.Dir)
	if err != nil {
		return err
	}
	if info.Digest, err = savedmodel.Digest(context.Background(), c.Dir); err != nil {
		return err
	}
	switch {
	case c.JSON:
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		err = e.Encode(info)
	case c.Variables:
		err = errors.Join(info.WriteText(a.stdout), info.WriteVariables(a.stdout))
	default:
		err = info.WriteText(a.stdout)
	}
	if err == nil && !info.Complete {
		err = errors.New("the version is incomplete")
	}
	return err
}
