/* libosip2: fields are strings and lists of its own, read by its accessors. */

#include "nine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <osipparser2/osip_parser.h>

static struct span text(const char *string)
{
	return string ? (struct span){ string, strlen(string) } : (struct span){ NULL, 0 };
}

static struct nine_uri uri(const osip_uri_t *from)
{
	const osip_uri_param_t *parameter = osip_list_get(&from->url_params, 0);

	return (struct nine_uri){
		.scheme = text(from->scheme),
		.user = text(from->username),
		.host = text(from->host),
		.parameters = text(parameter ? parameter->gname : NULL),
		.port = from->port ? (uint32_t)atoi(from->port) : 0,
	};
}

static int read_nine(osip_message_t *message, struct nine *nine)
{
	osip_via_t *via = NULL;
	osip_contact_t *contact = NULL;
	osip_generic_param_t *branch = NULL, *tag = NULL;

	if (osip_message_get_via(message, 0, &via) < 0 || osip_message_get_contact(message, 0, &contact) < 0)
		return 1;
	if (osip_via_param_get_byname(via, "branch", &branch) || osip_from_get_tag(osip_message_get_from(message), &tag))
		return 1;
	const osip_to_t *to = osip_message_get_to(message);
	const osip_call_id_t *call_id = osip_message_get_call_id(message);
	osip_cseq_t *cseq = osip_message_get_cseq(message);
	const osip_content_length_t *length = osip_message_get_content_length(message);

	if (!to || !call_id || !cseq || !length)
		return 1;
	if (MSG_IS_REQUEST(message)) {
		nine->method = text(osip_message_get_method(message));
		nine->request_uri = uri(osip_message_get_uri(message));
	} else {
		nine->status = (uint32_t)osip_message_get_status_code(message);
	}
	nine->branch = text(branch->gvalue);
	nine->from_tag = text(tag->gvalue);
	nine->to = uri(to->url);
	nine->call_id = text(call_id->number);
	nine->call_id_host = text(call_id->host);
	nine->cseq = (uint32_t)strtoul(osip_cseq_get_number(cseq), NULL, 10);
	nine->cseq_method = text(osip_cseq_get_method(cseq));
	nine->contact = uri(contact->url);
	nine->content_length = (uint32_t)strtoul(length->value, NULL, 10);
	return 0;
}

int nine_by_osip(const char *bytes, size_t len, nine_seen *seen, void *context)
{
	static int is_ready;
	osip_message_t *message;
	struct nine nine = { 0 };

	if (!is_ready) {
		parser_init();
		is_ready = 1;
	}
	if (osip_message_init(&message))
		return 1;
	int failed = osip_message_parse(message, bytes, len) || read_nine(message, &nine);

	if (!failed)
		seen(&nine, context);
	osip_message_free(message);
	return failed;
}
