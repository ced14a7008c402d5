package main

import (
	"context"
	"encoding/json"
	"errors"

	"inceptor/model/infer"
	"inceptor/savedmodel"
	"inceptor/service"
)

type inspectCmd struct {
	noSettings

	Dir  string `arg:"" help:"Directory of the version: the one that holds saved_model.pb." placeholder:"DIR"`
	JSON bool   `name:"json" help:"Print JSON."`

	Variables bool `help:"List every variable, not only the largest ones."`

	Input contentFormat `embed:"" prefix:"input." group:"Input"`
}

// Help is the long help.
func (*inspectCmd) Help() string {
	return `Lists tags, signatures, variables, assets, warm-up requests and the digest, and names every ` +
		`file that is missing or truncated. ` +
		`"serving" is what the service does with the version: what each input takes, how pixels are made ` +
		`and where that is stated, which outputs are read, where the class labels come from, and what is ` +
		`assumed or missing, with the line to write. "inceptor run" decides with the same code. ` +
		`A version is complete if its files are, and if the service would accept it, as far as its files ` +
		`show. Otherwise the exit status is 1. "inceptor check" also loads and runs the model.`
}

// An inspection is the output of --json.
type inspection struct {
	*savedmodel.Info
	Serving infer.Explanation `json:"serving"`
}

func (c *inspectCmd) Run(a *app) error {
	info, err := savedmodel.Inspect(c.Dir)
	if err != nil {
		return err
	}
	if info.Digest, err = savedmodel.Digest(context.Background(), c.Dir); err != nil {
		return err
	}
	serving := infer.Explain(c.Dir, service.Config{Input: c.Input.config()}.ModelConfig().Content, infer.SpecOverrides{})
	failure := errors.New("the version is incomplete")
	if info.Complete && serving.Refused != "" {
		failure = errors.New("the service would refuse the version")
		info.Complete, info.Missing = false, []string{"the service refuses it: " + serving.Refused}
	}
	switch {
	case c.JSON:
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		err = e.Encode(inspection{info, serving})
	case c.Variables:
		err = errors.Join(info.WriteText(a.stdout), info.WriteVariables(a.stdout))
	default:
		err = errors.Join(info.WriteText(a.stdout), serving.WriteText(a.stdout))
	}
	if err == nil && !info.Complete {
		err = failure
	}
	return err
}
