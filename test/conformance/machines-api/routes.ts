import { expect } from 'vitest'
import { NOT_OFFERED } from '../../../packages/api/src/not-offered.ts'
import type { TrialMethod } from '../../../packages/server/src/http/trial-api.ts'
import { ownOperations } from './own-openapi.ts'
import { differ, pass, type Row, type Section } from './row.ts'

/** A path of the Machines API, with the names of what goes in and comes out; each by blanks. */
interface Route {
  readonly route: string
  readonly query?: string
  readonly body?: string
  readonly reply?: string
  readonly status?: number
  /** `body.name` and so on, with the reason. */
  readonly differs?: Readonly<Record<string, string>>
}

const OWN = ownOperations()
const MACHINE =
  'id name state region image_ref image_ref.registry image_ref.repository image_ref.tag image_ref.digest image_ref.labels instance_id version private_ip created_at updated_at config events checks checks[].name checks[].status checks[].output checks[].updated_at nonce host_status cordoned'
const EVENT =
  'id type status source timestamp request request.exit_event request.MonitorEvent request.MonitorEvent.exit_event request.restart_count request.exit_event.exit_code request.exit_event.guest_exit_code request.exit_event.guest_signal request.exit_event.oom_killed request.exit_event.requested_stop request.exit_event.restarting request.exit_event.signal request.exit_event.exited_at'
const LAUNCH =
  'config region name skip_launch skip_service_registration skip_secrets min_secrets_version lease_ttl lsvd'
const APP =
  'id name internal_numeric_id network status machine_count volume_count organization organization.name organization.slug organization.internal_numeric_id cname_target app_role'
const LEASE = 'status data data.nonce data.expires_at data.owner data.description data.version'
const SECRET = 'name digest created_at updated_at'
const ADDRESS = 'ip region service_name shared created_at'
const CERTIFICATE =
  'hostname configured acme_requested status dns_provider rate_limited_until certificates certificates[].source certificates[].status certificates[].created_at certificates[].expires_at certificates[].issuer certificates[].issued certificates[].issued[].type certificates[].issued[].expires_at certificates[].issued[].certificate_authority validation validation.dns_configured validation.alpn_configured validation.http_configured validation.ownership_txt_configured dns_requirements dns_requirements.a dns_requirements.aaaa dns_requirements.cname dns_requirements.acme_challenge dns_requirements.acme_challenge.name dns_requirements.acme_challenge.target dns_requirements.ownership dns_requirements.ownership.name dns_requirements.ownership.app_value dns_requirements.ownership.org_value dns_records dns_records.a dns_records.aaaa dns_records.cname dns_records.resolved_addresses dns_records.soa dns_records.acme_challenge_cname dns_records.ownership_txt validation_errors validation_errors[].code validation_errors[].message validation_errors[].remediation validation_errors[].timestamp'
const CERTIFICATES = '/v1/apps/{app}/certificates'
const GUESSES = {
  'reply.dns_provider': 'nobody guesses who keeps the DNS of a name',
  'reply.dns_records.soa': 'always null: nobody guesses who keeps the DNS of a name',
  'reply.dns_requirements.ownership.org_value':
    'always empty: a name belongs to an app, and its organisation is no proof',
  'reply.rate_limited_until':
    'what an authority says is in `failure.why`, and when it is tried again in `failure.next_at`',
}
const of = (prefix: string, names: string) =>
  names
    .split(' ')
    .map((name) => `${prefix}${name}`)
    .join(' ')
const LSVD = { 'body.lsvd': 'refused by name where true: there are no such volumes' }
const NEVER_SHOWN = {
  'query.show_secrets': 'refused by name where true: nobody is shown the value of a secret',
}
const ONE_CONTAINER = 'a machine has one container'
const INCOMPLETE = {
  ...(OWN.get('GET /v1/apps/{app}/machines/{id}')?.reply.has('containers')
    ? {}
    : {
        'reply.containers': ONE_CONTAINER,
        'reply.containers[].name': ONE_CONTAINER,
        'reply.containers[].state': ONE_CONTAINER,
      }),
  'reply.incomplete_config': 'the server has the whole configuration, whatever became of its host',
}
const M = '/v1/apps/{app}/machines'

export const ROUTES: readonly Route[] = [
  {
    route: 'POST /v1/apps',
    query: 'wait',
    body: 'app_name name org_slug network enable_subdomains app_role_id',
    reply: APP,
    status: 201,
    differs: {
      'query.wait': 'taken and ignored: an app is there when it is answered',
      'body.enable_subdomains': 'refused by name where true: an app has one name',
      'body.app_role_id': 'refused by name: apps have no roles',
    },
  },
  {
    route: 'GET /v1/apps',
    query: 'org_slug app_role',
    reply: `total_apps apps ${of('apps[].', APP)}`,
  },
  { route: 'GET /v1/apps/{app}', reply: APP },
  { route: 'DELETE /v1/apps/{app}', query: 'force', status: 202 },
  {
    route: `GET ${M}`,
    query: 'include_deleted region state metadata.{key} summary',
    reply: of('[].', MACHINE),
    differs: {
      'query.metadata.{key}': 'taken, and not in the OpenAPI document, which can not name it',
      'query.summary': 'taken and ignored: each machine is told whole',
    },
  },
  {
    route: `POST ${M}`,
    body: LAUNCH,
    reply: `${MACHINE} incomplete_config`,
    differs: { ...INCOMPLETE, ...LSVD },
  },
  {
    route: `GET ${M}/{id}`,
    reply: `${MACHINE} ${of('events[].', EVENT)} containers containers[].name containers[].state incomplete_config`,
    differs: INCOMPLETE,
  },
  {
    route: `POST ${M}/{id}`,
    body: `${LAUNCH} current_version`,
    reply: MACHINE,
    differs: LSVD,
  },
  { route: `DELETE ${M}/{id}`, query: 'force kill', reply: 'ok' },
  {
    route: `POST ${M}/{id}/start`,
    reply: 'previous_state migrated new_host status message',
    differs: {
      'reply.migrated': 'told, always false: machines stay on their host',
      'reply.new_host': 'told, always empty: machines stay on their host',
      'reply.status': 'a start that is refused has a status code of its own',
      'reply.message': 'a start that is refused has a status code of its own',
    },
  },
  {
    route: `POST ${M}/{id}/stop`,
    body: 'id signal timeout',
    reply: 'ok',
    differs: { 'body.id': 'taken and ignored: the path says which machine' },
  },
  { route: `POST ${M}/{id}/suspend`, reply: 'ok' },
  { route: `POST ${M}/{id}/restart`, query: 'force_stop timeout signal', reply: 'ok' },
  { route: `POST ${M}/{id}/signal`, body: 'signal', reply: 'ok' },
  {
    route: `GET ${M}/{id}/wait`,
    query: 'state timeout instance_id version from_event_id',
    reply: 'ok',
  },
  { route: `POST ${M}/{id}/cordon`, reply: 'ok' },
  { route: `POST ${M}/{id}/uncordon`, reply: 'ok' },
  { route: `GET ${M}/{id}/lease`, reply: LEASE },
  {
    route: `POST ${M}/{id}/lease`,
    query: 'ttl',
    body: 'description ttl',
    reply: LEASE,
    status: 201,
  },
  { route: `DELETE ${M}/{id}/lease`, reply: 'status data data.ok' },
  { route: `GET ${M}/{id}/metadata` },
  { route: `POST ${M}/{id}/metadata/{key}`, body: 'value', status: 204 },
  { route: `DELETE ${M}/{id}/metadata/{key}`, status: 204 },
  {
    route: `POST ${M}/{id}/exec`,
    body: 'cmd command container machine stdin timeout',
    reply: 'exit_code stdout stderr',
  },
  {
    route: `GET ${M}/{id}/ps`,
    query: 'sort_by order',
    reply:
      '[].pid [].stime [].rtime [].command [].directory [].cpu [].rss [].listen_sockets [].listen_sockets[].proto [].listen_sockets[].address',
  },
  { route: `GET ${M}/{id}/events`, reply: of('[].', EVENT) },
  { route: `GET ${M}/{id}/versions`, reply: '[].version [].user_config' },
  {
    route: `GET ${CERTIFICATES}`,
    query: 'limit cursor filter',
    reply: `certificates next_cursor total_count ${of('certificates[].', 'hostname status dns_provider acme_dns_configured acme_alpn_configured acme_http_configured ownership_txt_configured configured acme_requested has_custom_certificate has_fly_certificate created_at updated_at')}`,
    differs: { 'reply.certificates[].dns_provider': GUESSES['reply.dns_provider'] },
  },
  {
    route: `POST ${CERTIFICATES}/acme`,
    body: 'hostname',
    reply: CERTIFICATE,
    status: 201,
    differs: GUESSES,
  },
  {
    route: `POST ${CERTIFICATES}/custom`,
    body: 'hostname fullchain private_key',
    reply: CERTIFICATE,
    status: 201,
    differs: GUESSES,
  },
  { route: `GET ${CERTIFICATES}/{hostname}`, reply: CERTIFICATE, differs: GUESSES },
  { route: `POST ${CERTIFICATES}/{hostname}/check`, reply: CERTIFICATE, differs: GUESSES },
  { route: `DELETE ${CERTIFICATES}/{hostname}`, status: 204 },
  { route: `DELETE ${CERTIFICATES}/{hostname}/acme`, status: 204 },
  { route: `DELETE ${CERTIFICATES}/{hostname}/custom`, status: 204 },
  {
    route: 'GET /v1/apps/{app}/secrets',
    query: 'version show_secrets',
    reply: `secrets ${of('secrets[].', SECRET)} secrets[].value`,
    differs: { ...NEVER_SHOWN, 'reply.secrets[].value': 'nobody is shown the value of a secret' },
  },
  {
    route: 'GET /v1/apps/{app}/secrets/{name}',
    query: 'version show_secrets',
    reply: SECRET,
    differs: NEVER_SHOWN,
  },
  { route: 'POST /v1/apps/{app}/secrets/{name}', body: 'value', reply: `${SECRET} version` },
  { route: 'DELETE /v1/apps/{app}/secrets/{name}', reply: 'version' },
  {
    route: 'POST /v1/apps/{app}/secrets',
    body: 'values',
    reply: `version secrets ${of('secrets[].', SECRET)}`,
  },
  { route: 'GET /v1/apps/{app}/ip_assignments', reply: `ips ${of('ips[].', ADDRESS)}` },
  {
    route: 'POST /v1/apps/{app}/ip_assignments',
    body: 'type region org_slug network service_name',
    reply: ADDRESS,
    differs: {
      'body.type':
        'only `shared_v4`: the addresses are those of the hosts, and all apps share them',
      'body.region': 'taken and ignored: the addresses are those of the hosts',
      'body.network': 'taken and ignored: the addresses are those of the hosts',
      'body.service_name': 'taken and ignored: the addresses are those of the hosts',
    },
  },

  {
    route: 'GET /v1/platform/regions',
    reply: `Regions Nearest ${of('Regions[].', 'code name latitude longitude gateway_available requires_paid_plan deprecated capacity geo_region mpg_available')}`,
  },
  {
    route: 'POST /v1/platform/placements',
    body: 'compute region count volume_name volume_size_bytes weights org_slug',
    reply: `Regions ${of('Regions[].', 'Region Count Concurrency')}`,
    differs: {
      'body.volume_name': 'refused by name: there are no volumes that outlive a machine yet',
      'body.volume_size_bytes': 'refused by name: there are no volumes that outlive a machine yet',
      'body.weights': 'taken and ignored: regions are filled in the order that was asked for',
    },
  },
]

/** Those that Roost does not have: each answers 501 with the reason. */
const NOT_HERE = [
  ...[
    'GET /volumes',
    'POST /volumes',
    'GET /volumes/{volume}',
    'PUT /volumes/{volume}',
    'POST /volumes/{volume}',
    'DELETE /volumes/{volume}',
    'PUT /volumes/{volume}/extend',
    'GET /volumes/{volume}/snapshots',
    'POST /volumes/{volume}/snapshots',
    'GET /secretkeys',
    'GET /secretkeys/{name}',
    'POST /secretkeys/{name}',
    'POST /secretkeys/{name}/generate',
    'DELETE /secretkeys/{name}',
    'POST /secretkeys/{name}/encrypt',
    'POST /secretkeys/{name}/decrypt',
    'POST /secretkeys/{name}/sign',
    'POST /secretkeys/{name}/verify',
    'POST /network_policies',
    'GET /network_policies/',
    'DELETE /network_policies/{id}',
  ].map((route) => route.replace(' /', ' /v1/apps/{app}/')),
  'POST /v1/tokens/oidc',
  'POST /v1/postgres',
  'GET /v1/postgres/{id}',
  'GET /v1/postgres/{id}/users/{user}/credentials',
]

function rowsOf({
  route,
  query = '',
  body = '',
  reply = '',
  status = 200,
  differs = {},
}: Route): Row[] {
  const own = OWN.get(route)
  const fields = [
    ...names(query).map((name) => ({ where: 'query' as const, name })),
    ...names(body).map((name) => ({ where: 'body' as const, name })),
    ...names(reply).map((name) => ({ where: 'reply' as const, name })),
  ]
  return [
    pass(`\`${route}\` answers ${status}`, () => {
      expect(own, `${route} is not in our OpenAPI document`).toBeDefined()
      expect([...(own?.statuses ?? [])]).toContain(String(status))
    }),
    ...fields.map(({ where, name }) => {
      const says = `\`${route}\`: ${where} \`${name}\``
      const reason = differs[`${where}.${name}`]
      if (reason !== undefined) return differ(says, reason)
      return pass(says, () => expect([...(own?.[where] ?? [])]).toContain(name))
    }),
  ]
}

function notHere(route: string): Row {
  const [method = '', path = ''] = route.split(' ')
  const prefix = path.replace('{app}', ':app')
  const why = NOT_OFFERED.find((one) => prefix.startsWith(one.path))?.why
  return differ(`\`${route}\``, `501 \`not_offered\`: ${why ?? 'ABSENT'}`, async (api) => {
    const url = path.replace('{app}', 'shop').replace(/\{\w+\}/g, 'x')
    const body = method === 'POST' || method === 'PUT' ? {} : undefined
    const reply = await api.call(method as TrialMethod, url, body)
    expect([reply.status, reply.body.code, reply.body.error]).toEqual([501, 'not_offered', why])
    const stranger = await api.call(method as TrialMethod, url, body, { authorization: '' })
    expect(stranger.status).toBe(401)
  })
}

function names(text: string): string[] {
  return text === '' ? [] : text.split(' ')
}

export const ROUTE_SECTIONS: readonly Section[] = [
  { title: 'Requests and their fields', rows: ROUTES.flatMap(rowsOf) },
  { title: 'Resources that Roost does not have', rows: NOT_HERE.map(notHere) },
]
