package example.millrace.programs;

import io.temporal.api.workflowservice.v1.WorkflowServiceGrpc.WorkflowServiceBlockingStub;
import io.temporal.client.WorkflowClient;
import io.temporal.client.WorkflowClientOptions;
import io.temporal.client.WorkflowOptions;
import io.temporal.client.WorkflowStub;
import io.temporal.serviceclient.WorkflowServiceStubs;
import io.temporal.serviceclient.WorkflowServiceStubsOptions;
import io.temporal.worker.Worker;
import io.temporal.worker.WorkerFactory;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/** What a program plays on: a client, a worker on a task queue of its own, and the list of executions to report. */
final class Stage implements AutoCloseable {
  /** Something did not go as the program says it must. */
  static final class Unexpected extends Error {
    private static final long serialVersionUID = 1;

    Unexpected(String message) {
      super(message);
    }
  }

  private record Execution(String label, String workflowId, String runId) {
    String json() {
      return "{\"label\":\"%s\",\"workflow_id\":\"%s\",\"run_id\":\"%s\"}".formatted(label, workflowId, runId);
    }
  }

  @FunctionalInterface
  interface Condition {
    boolean holds() throws Exception;
  }

  private static final Duration PATIENCE = Duration.ofMinutes(1);
  // Temporal's server limits how often its lists are read.
  private static final Duration LOOK_EVERY = Duration.ofMillis(100);

  final WorkflowClient client;
  final Worker worker;
  private final String idPrefix;
  private final WorkflowServiceStubs service;
  private final WorkerFactory factory;
  private final List<Execution> executions = new ArrayList<>();

  static Stage setUp(String program, List<String> flags) {
    String address = "127.0.0.1:7233";
    String namespace = "default";
    String idPrefix = program;
    for (int i = 0; i < flags.size(); i += 2) {
      if (i + 1 == flags.size()) {
        throw new Unexpected("expected a value after " + flags.get(i));
      }
      switch (flags.get(i)) {
        case "--address" -> address = flags.get(i + 1);
        case "--namespace" -> namespace = flags.get(i + 1);
        case "--id-prefix" -> idPrefix = flags.get(i + 1);
        default -> throw new Unexpected("no such flag: " + flags.get(i));
      }
    }
    return new Stage(address, namespace, idPrefix);
  }

  private Stage(String address, String namespace, String idPrefix) {
    this.idPrefix = idPrefix;
    service =
        WorkflowServiceStubs.newServiceStubs(WorkflowServiceStubsOptions.newBuilder().setTarget(address).build());
    client =
        WorkflowClient.newInstance(
            service, WorkflowClientOptions.newBuilder().setNamespace(namespace).setIdentity("programs").build());
    factory = WorkerFactory.newInstance(client);
    worker = factory.newWorker(taskQueue());
  }

  private String taskQueue() {
    return idPrefix + "-tasks";
  }

  String namespace() {
    return client.getOptions().getNamespace();
  }

  /** The API as it is, for calls that the SDK has no methods for. */
  WorkflowServiceBlockingStub api() {
    return service.blockingStub();
  }

  String workflowId(String suffix) {
    return idPrefix + "-" + suffix;
  }

  /** Starts the worker; what it serves must have been registered. */
  void startWorker() {
    factory.start();
  }

  /** How to start the workflow whose id is the prefix. */
  WorkflowOptions workflowOptions() {
    return WorkflowOptions.newBuilder().setWorkflowId(idPrefix).setTaskQueue(taskQueue()).build();
  }

  /** How to start one of several workflows. */
  WorkflowOptions workflowOptions(String suffix) {
    return WorkflowOptions.newBuilder(workflowOptions()).setWorkflowId(workflowId(suffix)).build();
  }

  /** Adds an execution to the report. */
  void add(String label, WorkflowStub workflow) {
    var execution = workflow.getExecution();
    executions.add(new Execution(label, execution.getWorkflowId(), execution.getRunId()));
  }

  /**
   * Waits until the workflow waits for something from outside: until no workflow task and no activity is pending. What is
   * sent next can then meet it in one state only.
   */
  void untilIdle(WorkflowStub workflow) throws Exception {
    until(
        "the workflow to be idle",
        () -> {
          var description = workflow.describe().getRawDescription();
          return !description.hasPendingWorkflowTask() && description.getPendingActivitiesCount() == 0;
        });
  }

  static void until(String what, Condition condition) throws Exception {
    for (Instant end = Instant.now().plus(PATIENCE); Instant.now().isBefore(end); Thread.sleep(LOOK_EVERY.toMillis())) {
      if (condition.holds()) {
        return;
      }
    }
    throw new Unexpected("expected " + what + " within " + PATIENCE.toSeconds() + " s");
  }

  <T> T result(WorkflowStub workflow, Class<T> type) throws Exception {
    return workflow.getResult(PATIENCE.toSeconds(), TimeUnit.SECONDS, type);
  }

  static void expect(String what, Object want, Object got) {
    if (!Objects.equals(want, got)) {
      throw new Unexpected("expected " + what + " to be " + want + ", but got " + got);
    }
  }

  static void narrate(String line) {
    System.err.println(line);
  }

  /** The executions whose histories are worth comparing, as one line of JSON. */
  String report(String program) {
    String list = executions.stream().map(Execution::json).collect(Collectors.joining(",", "[", "]"));
    return "{\"program\":\"%s\",\"executions\":%s}".formatted(program, list);
  }

  @Override
  public void close() {
    factory.shutdown();
    factory.awaitTermination(5, TimeUnit.SECONDS);
    service.shutdownNow();
  }
}
