import type { CertificateReply } from '@roost/api'
import type { CliContext } from '../cli-context.ts'
import { styleOf } from '../terminal/style.ts'
import { tableText } from '../terminal/table.ts'

type Finding = CertificateReply['dns_findings'][number]

const STATES: Readonly<Record<CertificateReply['status'], string>> = {
  active: 'active',
  pending_validation: 'waits for its first certificate',
  pending_ownership: 'waits until DNS says that the name is yours',
  expired: 'expired',
}

export function statusText(status: CertificateReply['status']): string {
  return STATES[status]
}

/** What is needed and not there, as a person would enter it. */
export function missingRecords(reply: CertificateReply): readonly Finding[] {
  return reply.dns_findings.filter(({ needed, state }) => needed && state !== 'right')
}

export function recordText({ type, name, wanted, state }: Finding): string {
  if (state === 'unknown') return `${name}: DNS could not be asked`
  if (type === 'AAAA') return `remove the AAAA records of ${name}`
  const [target, ...addresses] = wanted
  const byAddress =
    type !== 'TXT' && addresses.length > 0 ? `, or A ${addresses.join(' and ')}` : ''
  const kind = type === 'A' ? 'CNAME' : type
  return `${name}  ${kind}  ${target ?? ''}${byAddress}`
}

/** Everything about a name, for `show` and `check`. */
export function certificateText(context: CliContext, reply: CertificateReply, app: string): string {
  const style = styleOf(context, context.stdout)
  const good = reply.status === 'active'
  const lines = [
    `name      ${reply.hostname} → ${app}`,
    `status    ${good ? style.green(statusText(reply.status)) : style.red(statusText(reply.status))}`,
    `ordered   ${orderedText(reply)}`,
  ]
  for (const one of reply.certificates)
    lines.push(
      `${one.source === 'custom' ? 'imported  ' : 'issued    '}by ${one.issuer}, until ${minute(one.expires_at)}${
        one.renews_at === null ? '' : `, renewed from ${minute(one.renews_at)}`
      }`,
    )
  const { failure } = reply
  if (failure !== null)
    lines.push(
      `failed    ${failure.times === 1 ? 'once' : `${failure.times} times`}, last at ${minute(failure.at)}${
        failure.challenge === null ? '' : ` by ${failure.challenge}`
      }: ${failure.why}`,
      `next try  ${minute(failure.next_at)}, or at once: roost certs check ${reply.hostname} -a ${app}`,
    )
  if (reply.dns_findings.length > 0) lines.push('', dnsTable(context, reply))
  const missing = missingRecords(reply).filter(({ state }) => state !== 'unknown')
  if (missing.length > 0)
    lines.push(
      '',
      'To be set at who keeps your DNS:',
      ...missing.map((one) => `  ${recordText(one)}`),
    )
  return `${lines.join('\n')}\n`
}

function orderedText(reply: CertificateReply): string {
  if (!reply.acme_requested) return 'no: it is imported, and renewed by nobody but you'
  const by = reply.challenge === null ? '' : `, by ${reply.challenge} alone`
  return `from ${reply.acme_directory ?? 'nobody: there is no authority in the configuration'}${by}`
}

function dnsTable(context: CliContext, reply: CertificateReply): string {
  const style = styleOf(context, context.stdout)
  const rows = reply.dns_findings.map((one) => [
    one.type,
    one.name,
    one.state === 'right'
      ? style.green('right')
      : one.needed
        ? style.red(one.state)
        : `${one.state} (not needed)`,
    one.found.join(' ') || '-',
    one.why,
  ])
  return tableText(['DNS', 'NAME', 'STATE', 'FOUND', 'WHY'], rows, context.stdout)
}

function minute(at: string): string {
  return at.replace(/:\d\d\.\d+Z$/, 'Z')
}
