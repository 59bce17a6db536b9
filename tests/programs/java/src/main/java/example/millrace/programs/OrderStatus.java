package example.millrace.programs;

import io.temporal.activity.ActivityInterface;
import io.temporal.activity.ActivityOptions;
import io.temporal.client.WorkflowClient;
import io.temporal.client.WorkflowStub;
import io.temporal.workflow.QueryMethod;
import io.temporal.workflow.SignalMethod;
import io.temporal.workflow.Workflow;
import io.temporal.workflow.WorkflowInterface;
import io.temporal.workflow.WorkflowMethod;
import java.time.Duration;

/** An order waits for its payment, is then shipped, and can be asked at any time how far it is. */
final class OrderStatus {
  @WorkflowInterface
  public interface Order {
    @WorkflowMethod
    String fulfil(String item);

    @SignalMethod
    void paid(String receipt);

    @QueryMethod
    String status();
  }

  @ActivityInterface
  public interface Warehouse {
    String ship(String item);
  }

  public static final class OrderWorkflow implements Order {
    private final Warehouse warehouse =
        Workflow.newActivityStub(
            Warehouse.class, ActivityOptions.newBuilder().setStartToCloseTimeout(Duration.ofSeconds(10)).build());
    private String status = "new";
    private String receipt;

    @Override
    public String fulfil(String item) {
      status = "waiting for payment";
      Workflow.await(() -> receipt != null);
      status = "paid with " + receipt;
      String parcel = warehouse.ship(item);
      status = "shipped as " + parcel;
      return parcel;
    }

    @Override
    public void paid(String receipt) {
      this.receipt = receipt;
    }

    @Override
    public String status() {
      return status;
    }
  }

  public static final class WarehouseActivities implements Warehouse {
    @Override
    public String ship(String item) {
      Stage.narrate("activity: shipping " + item);
      return "parcel of " + item;
    }
  }

  static void play(Stage stage) throws Exception {
    stage.worker.registerWorkflowImplementationTypes(OrderWorkflow.class);
    stage.worker.registerActivitiesImplementations(new WarehouseActivities());
    stage.startWorker();

    Order order = stage.client.newWorkflowStub(Order.class, stage.workflowOptions());
    WorkflowClient.start(order::fulfil, "a millstone");
    WorkflowStub workflow = WorkflowStub.fromTyped(order);
    stage.add("order", workflow);
    Stage.narrate("client: ordered, " + workflow.getExecution().getWorkflowId());

    stage.untilIdle(workflow);
    Stage.narrate("client: the order is " + order.status());
    Stage.expect("the status", "waiting for payment", order.status());

    order.paid("receipt 17");
    Stage.expect("the result", "parcel of a millstone", stage.result(workflow, String.class));
    Stage.narrate("client: the order is " + order.status());
    // A closed workflow still answers: the worker replays its history, or remembers it.
    Stage.expect("the status", "shipped as parcel of a millstone", order.status());
  }

  private OrderStatus() {}
}
