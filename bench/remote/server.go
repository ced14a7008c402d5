package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
	"inceptor/service"
)

// A servable is a loaded model that has one signature, as a remotetest.Service.
type servable struct {
	model     *savedmodel.Model
	signature map[string]*tfpb.SignatureDef
}

// serve serves the model on a port of 127.0.0.1, which it tells, until standard
// input ends.
func serve(config service.Config, signature string) error {
	dir := filepath.Join(modelDir, strconv.Itoa(version))
	def, err := readSignature(dir, signature)
	if err != nil {
		return err
	}
	if err := savedmodel.OpenLibrary(config.TensorFlow.Library); err != nil {
		return err
	}
	session := config.Model.Session
	// As model.Manager has them.
	session.OwnThreads = true
	session.Optimize = config.Model.Optimize == "auto"
	m, err := savedmodel.Load(context.Background(), dir, session)
	if err != nil {
		return err
	}
	defer func() { _ = m.Close() }() // nothing is lost by it
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := remotetest.NewServer(&servable{m, map[string]*tfpb.SignatureDef{signature: def}})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		s.Stop()
	}()
	if err := json.NewEncoder(os.Stdout).Encode(l.Addr().String()); err != nil {
		return err
	}
	return s.Serve(l)
}

// readSignature reads it as the model server would send it.
func readSignature(dir, signature string) (*tfpb.SignatureDef, error) {
	file := filepath.Join(dir, "saved_model.pb")
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var saved tfpb.SavedModel
	if err := proto.Unmarshal(raw, &saved); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, graph := range saved.GetMetaGraphs() {
		if def, ok := graph.GetSignatureDef()[signature]; ok {
			return def, nil
		}
	}
	return nil, fmt.Errorf("%s: no signature %q", file, signature)
}

// Predict implements remotetest.Service.
func (s *servable) Predict(ctx context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
	return remotetest.Run(ctx, s.model, version, r)
}

// GetModelMetadata implements remotetest.Service.
func (s *servable) GetModelMetadata(context.Context, *tfpb.GetModelMetadataRequest) (*tfpb.GetModelMetadataResponse, error) {
	signatures, err := anypb.New(&tfpb.SignatureDefMap{SignatureDef: s.signature})
	if err != nil {
		return nil, err
	}
	return &tfpb.GetModelMetadataResponse{
		ModelSpec: &tfpb.ModelSpec{Name: modelName, VersionChoice: &tfpb.ModelSpec_Version{Version: wrapperspb.Int64(version)}},
		Metadata:  map[string]*anypb.Any{"signature_def": signatures},
	}, nil
}

// GetModelStatus implements remotetest.Service.
func (s *servable) GetModelStatus(context.Context, *tfpb.GetModelStatusRequest) (*tfpb.GetModelStatusResponse, error) {
	return &tfpb.GetModelStatusResponse{ModelVersionStatus: []*tfpb.ModelVersionStatus{
		{Version: version, State: tfpb.ModelVersionStatus_AVAILABLE, Status: &tfpb.StatusProto{}},
	}}, nil
}
