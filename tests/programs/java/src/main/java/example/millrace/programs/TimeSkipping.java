package example.millrace.programs;

import com.google.protobuf.Empty;
import com.google.protobuf.util.Durations;
import io.temporal.activity.ActivityInterface;
import io.temporal.activity.ActivityOptions;
import io.temporal.api.testservice.v1.LockTimeSkippingRequest;
import io.temporal.api.testservice.v1.SleepRequest;
import io.temporal.api.testservice.v1.UnlockTimeSkippingRequest;
import io.temporal.client.WorkflowClient;
import io.temporal.client.WorkflowClientOptions;
import io.temporal.client.WorkflowOptions;
import io.temporal.client.WorkflowStub;
import io.temporal.serviceclient.TestServiceStubs;
import io.temporal.serviceclient.TestServiceStubsOptions;
import io.temporal.testing.TestEnvironmentOptions;
import io.temporal.testing.TestWorkflowEnvironment;
import io.temporal.worker.Worker;
import io.temporal.workflow.SignalMethod;
import io.temporal.workflow.Workflow;
import io.temporal.workflow.WorkflowInterface;
import io.temporal.workflow.WorkflowMethod;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * Tests workflows as users do with the SDK's TestWorkflowEnvironment, on a test server that is started by its path.
 *
 * <p>The environment skips time in the test server that is a part of the SDK; with an external one, it leaves time
 * alone. That server is therefore told to skip time from the start, and a test that holds time calls the test service.
 *
 * <p>The last line is `N passed, N failed`.
 */
public final class TimeSkipping implements AutoCloseable {
  @FunctionalInterface
  private interface Step {
    void run() throws Exception;
  }

  @WorkflowInterface
  public interface Reminder {
    @WorkflowMethod
    String remind(String name);
  }

  @WorkflowInterface
  public interface Order {
    @WorkflowMethod
    String await();

    @SignalMethod
    void paid();
  }

  @ActivityInterface
  public interface Post {
    String send(String name);
  }

  /** Sleeps for a year, and then does something. */
  public static final class ReminderWorkflow implements Reminder {
    private final Post post =
        Workflow.newActivityStub(
            Post.class, ActivityOptions.newBuilder().setStartToCloseTimeout(Duration.ofMinutes(1)).build());

    @Override
    public String remind(String name) {
      Workflow.sleep(Duration.ofDays(365));
      return post.send(name);
    }
  }

  /** Waits for its payment for a week. */
  public static final class OrderWorkflow implements Order {
    private boolean isPaid;

    @Override
    public String await() {
      return Workflow.await(Duration.ofDays(7), () -> isPaid) ? "paid" : "cancelled";
    }

    @Override
    public void paid() {
      isPaid = true;
    }
  }

  public static final class PostActivities implements Post {
    @Override
    public String send(String name) {
      return name + " was reminded";
    }
  }

  private static final Duration PATIENCE = Duration.ofMinutes(1);
  private static final String TASK_QUEUE = "tests";
  /** The namespace of the SDK's rules and extensions for JUnit, unless they are given another. */
  private static final String NAMESPACE = "UnitTest";

  private final Process server;
  private final TestWorkflowEnvironment environment;
  private final TestServiceStubs testService;
  private int passed;
  private int failed;

  public static void main(String[] args) throws Exception {
    if (args.length != 2 || !args[0].equals("--binary")) {
      System.err.println("usage: TimeSkipping --binary PATH: which server is to be tested?");
      System.exit(2);
    }
    int failed;
    try (TimeSkipping tests = new TimeSkipping(args[1])) {
      tests.check("a year of sleep", tests::aYearOfSleep);
      tests.check("a time-out", tests::aTimeOut);
      tests.check("a signal in time", tests::aSignalInTime);
      System.out.println(tests.passed + " passed, " + tests.failed + " failed");
      failed = tests.failed;
    }
    // The SDK's threads must not keep the process alive.
    System.exit(failed == 0 ? 0 : 1);
  }

  private TimeSkipping(String binary) throws Exception {
    int port = freePort();
    server =
        new ProcessBuilder(binary, Integer.toString(port), "--enable-time-skipping")
            .redirectOutput(ProcessBuilder.Redirect.INHERIT)
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start();
    Runtime.getRuntime().addShutdownHook(new Thread(server::destroy));
    Stage.until("the server to listen", () -> listens(port));
    environment =
        TestWorkflowEnvironment.newInstance(
            TestEnvironmentOptions.newBuilder()
                .setUseExternalService(true)
                .setTarget("127.0.0.1:" + port)
                .setWorkflowClientOptions(WorkflowClientOptions.newBuilder().setNamespace(NAMESPACE).build())
                .build());
    environment.getWorkflowServiceStubs().connect(PATIENCE);
    testService =
        TestServiceStubs.newServiceStubs(
            TestServiceStubsOptions.newBuilder()
                .setChannel(environment.getWorkflowServiceStubs().getRawChannel())
                .validateAndBuildWithDefaults());
    Worker worker = environment.newWorker(TASK_QUEUE);
    worker.registerWorkflowImplementationTypes(ReminderWorkflow.class, OrderWorkflow.class);
    worker.registerActivitiesImplementations(new PostActivities());
    environment.start();
  }

  /** The system hands out those from 32768 on: another process could be given the port before the server listens. */
  private static int freePort() {
    while (true) {
      int port = ThreadLocalRandom.current().nextInt(20_000, 32_000);
      try (var socket = new ServerSocket()) {
        socket.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), port));
        return port;
      } catch (IOException taken) {
        // Another, then.
      }
    }
  }

  private boolean listens(int port) {
    if (!server.isAlive()) {
      throw new Stage.Unexpected("the server ended with the status " + server.exitValue());
    }
    try {
      new Socket(InetAddress.getLoopbackAddress(), port).close();
      return true;
    } catch (IOException notYet) {
      return false;
    }
  }

  private void check(String name, Step step) {
    try {
      step.run();
      passed += 1;
      System.out.println("passed  " + name);
    } catch (Exception | Stage.Unexpected failure) {
      failed += 1;
      System.out.println("FAILED  " + name + "\n        " + failure);
    }
  }

  private <T> T newStub(Class<T> workflow, String id) {
    var options = WorkflowOptions.newBuilder().setWorkflowId(id).setTaskQueue(TASK_QUEUE).build();
    return environment.getWorkflowClient().newWorkflowStub(workflow, options);
  }

  private void aYearOfSleep() {
    Reminder reminder = newStub(Reminder.class, "year");
    Stage.expect("the result", "Ada was reminded", reminder.remind("Ada"));
    var description = WorkflowStub.fromTyped(reminder).describe();
    Duration passed = Duration.between(description.getStartTime(), description.getCloseTime());
    Stage.expect("the days that it took", 365L, passed.toDays());
  }

  private void aTimeOut() {
    Stage.expect("the result", "cancelled", newStub(Order.class, "late").await());
  }

  /** As with the SDK's own test server: time is locked, but while the test sleeps. */
  private void aSignalInTime() throws Exception {
    testService.blockingStub().lockTimeSkipping(LockTimeSkippingRequest.getDefaultInstance());
    Order order = newStub(Order.class, "in-time");
    var result = WorkflowClient.execute(order::await);
    Instant before = now();
    testService.blockingStub().unlockTimeSkippingWithSleep(
        SleepRequest.newBuilder().setDuration(Durations.fromDays(6)).build());
    Stage.expect("the days that have passed", 6L, Duration.between(before, now()).toDays());
    order.paid();
    Stage.expect("the result", "paid", result.get(PATIENCE.toSeconds(), TimeUnit.SECONDS));
    testService.blockingStub().unlockTimeSkipping(UnlockTimeSkippingRequest.getDefaultInstance());
  }

  private Instant now() {
    var time = testService.blockingStub().getCurrentTime(Empty.getDefaultInstance()).getTime();
    return Instant.ofEpochSecond(time.getSeconds(), time.getNanos());
  }

  @Override
  public void close() {
    environment.close();
    server.destroy();
  }

}
