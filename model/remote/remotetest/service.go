package remotetest

import (
	"bytes"
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// A Service is the part of TensorFlow Serving that this module calls.
type Service interface {
	Predict(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error)
	GetModelMetadata(context.Context, *tfpb.GetModelMetadataRequest) (*tfpb.GetModelMetadataResponse, error)
	GetModelStatus(context.Context, *tfpb.GetModelStatusRequest) (*tfpb.GetModelStatusResponse, error)
}

// NewServer returns a gRPC server without a listener. It accepts messages of any size that a
// test may send.
func NewServer(s Service, options ...grpc.ServerOption) *grpc.Server {
	server := grpc.NewServer(append([]grpc.ServerOption{grpc.MaxRecvMsgSize(1 << 30)}, options...)...)
	Register(server, s)
	return server
}

// Register makes a gRPC server serve s.
func Register(server *grpc.Server, s Service) {
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "tensorflow.serving.PredictionService",
		HandlerType: (*Service)(nil),
		Methods:     []grpc.MethodDesc{method("Predict", Service.Predict), method("GetModelMetadata", Service.GetModelMetadata)},
	}, s)
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "tensorflow.serving.ModelService",
		HandlerType: (*Service)(nil),
		Methods:     []grpc.MethodDesc{method("GetModelStatus", Service.GetModelStatus)},
	}, s)
}

// A message is a pointer to the struct of a protobuf message.
type message[T any] interface {
	*T
	proto.Message
}

func method[T any, Request message[T], Response proto.Message](name string, f func(Service, context.Context, Request) (Response, error)) grpc.MethodDesc {
	return grpc.MethodDesc{
		MethodName: name,
		Handler: func(s any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			request := Request(new(T))
			if err := decode(request); err != nil {
				return nil, err
			}
			handle := func(ctx context.Context, request any) (any, error) { return f(s.(Service), ctx, request.(Request)) }
			if intercept == nil {
				return handle(ctx, request)
			}
			return intercept(ctx, request, &grpc.UnaryServerInfo{Server: s, FullMethod: name}, handle)
		},
	}
}

// Run answers a Predict with a loaded model, as this version.
func Run(ctx context.Context, m *savedmodel.Model, version int64, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
	inputs := map[string]*savedmodel.Tensor{}
	defer func() {
		for _, t := range inputs {
			t.Close()
		}
	}()
	for key, value := range r.GetInputs() {
		t, err := savedmodel.TensorOf(value)
		if err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		inputs[key] = t
	}
	outputs, err := m.Run(ctx, r.GetModelSpec().GetSignatureName(), inputs)
	if native := new(savedmodel.Error); errors.As(err, &native) {
		return nil, status.Error(codes.Code(native.Code), native.Message) // TensorFlow's codes are gRPC's
	}
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	response := &tfpb.PredictResponse{
		ModelSpec: &tfpb.ModelSpec{Name: r.GetModelSpec().GetName(), VersionChoice: &tfpb.ModelSpec_Version{Version: wrapperspb.Int64(version)}},
		Outputs:   map[string]*tfpb.TensorProto{},
	}
	for key, t := range outputs {
		var dims []int
		for _, d := range t.Shape() {
			dims = append(dims, int(d))
		}
		response.Outputs[key] = &tfpb.TensorProto{Dtype: tfpb.DataType(t.DType()), TensorShape: shape(dims...), TensorContent: bytes.Clone(t.Bytes())}
		t.Close()
	}
	return response, nil
}
