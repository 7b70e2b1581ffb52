/* libre: fields are pointers into the message, of which a Contact's address is decoded when it is asked for. */

#include "nine.h"

#include <re.h>

static struct span text(struct pl from)
{
	return (struct span){ from.p, from.l };
}

static struct nine_uri uri(const struct uri *from)
{
	return (struct nine_uri){
		.scheme = text(from->scheme),
		.user = text(from->user),
		.host = text(from->host),
		.parameters = text(from->params),
		.port = from->port,
	};
}

static int read_nine(const struct sip_msg *message, struct nine *nine)
{
	const struct sip_hdr *field = sip_msg_hdr(message, SIP_HDR_CONTACT);
	struct sip_addr contact;

	if (!field || sip_addr_decode(&contact, &field->val))
		return 1;
	if (message->req) {
		nine->method = text(message->met);
		nine->request_uri = uri(&message->uri);
	} else {
		nine->status = message->scode;
	}
	nine->branch = text(message->via.branch);
	nine->from_tag = text(message->from.tag);
	nine->to = uri(&message->to.uri);
	nine->call_id = text(message->callid);
	nine->cseq = message->cseq.num;
	nine->cseq_method = text(message->cseq.met);
	nine->contact = uri(&contact.uri);
	nine->content_length = pl_u32(&message->clen);
	return 0;
}

int nine_by_re(const char *bytes, size_t len, nine_seen *seen, void *context)
{
	/* The message holds a reference to its buffer, so the buffer is one of libre's; it is filled as a socket would fill it. */
	struct mbuf *buffer = mbuf_alloc(len);
	struct sip_msg *message = NULL;
	struct nine nine = { 0 };

	if (!buffer)
		return 1;
	int failed = mbuf_write_mem(buffer, (const uint8_t *)bytes, len);

	buffer->pos = 0;
	failed = failed || sip_msg_decode(&message, buffer) || read_nine(message, &nine);
	if (!failed)
		seen(&nine, context);
	mem_deref(message);
	mem_deref(buffer);
	return failed;
}
