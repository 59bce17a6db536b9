//! A topic's id, by which a topic that was deleted and created again under its name is known to be another (KIP-516). rdkafka
//! has no safe form of this call, so it is made here.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::ptr::null_mut;

use rdkafka::bindings::*;
use rdkafka::client::Client;

use super::client::{CALL_WAIT_MAX, Events};
use crate::log::Error;

pub(super) fn topic_id(client: &Client<Events>, topic: &str) -> Result<String, Error> {
    let failed = |reason: &str| Error::Unavailable(format!("the id of topic {topic} can't be read: {reason}"));
    let name = CString::new(topic).map_err(|_| failed("its name has a zero byte"))?;
    let wait_ms = CALL_WAIT_MAX.as_millis() as i32;
    // SAFETY: the client outlives the call. Each object that is made here is destroyed once, after its last use, and what an
    // event holds is read before the event is destroyed. librdkafka copies the names and the options.
    unsafe {
        let client = client.native_ptr();
        let topics = rd_kafka_TopicCollection_of_topic_names([name.as_ptr()].as_mut_ptr(), 1);
        let options = rd_kafka_AdminOptions_new(client, rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, null_mut(), 0);
        let queue = rd_kafka_queue_new(client);
        rd_kafka_DescribeTopics(client, topics, options, queue);
        let event = rd_kafka_queue_poll(queue, wait_ms + 1000);
        let id =
            if event.is_null() { Err(failed("no broker has answered")) } else { read(event).map_err(|e| failed(&e)) };
        if !event.is_null() {
            rd_kafka_event_destroy(event);
        }
        rd_kafka_queue_destroy(queue);
        rd_kafka_AdminOptions_destroy(options);
        rd_kafka_TopicCollection_destroy(topics);
        id
    }
}

/// The id in the answer.
///
/// # Safety
/// `event` is one that librdkafka returned and that is not destroyed yet.
unsafe fn read(event: *mut rd_kafka_event_t) -> Result<String, String> {
    // SAFETY: librdkafka's strings are terminated, and they, the result and its descriptions live as long as the event.
    unsafe {
        let text = |text: *const std::ffi::c_char| CStr::from_ptr(text).to_string_lossy().into_owned();
        if rd_kafka_event_error(event) as i32 != 0 {
            return Err(text(rd_kafka_event_error_string(event)));
        }
        let result = rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err("the answer is to another question".into());
        }
        let mut count = 0;
        let descriptions = rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if count != 1 {
            return Err(format!("{count} topics are described"));
        }
        let error = rd_kafka_TopicDescription_error(*descriptions);
        if !error.is_null() && rd_kafka_error_code(error) as i32 != 0 {
            return Err(text(rd_kafka_error_string(error)));
        }
        Ok(text(rd_kafka_Uuid_base64str(rd_kafka_TopicDescription_topic_id(*descriptions))))
    }
}
