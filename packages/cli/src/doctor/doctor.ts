import { type DoctorReply, type FindingReply, VERSION } from '@roost/api'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { explain } from '../failure/explain.ts'
import { Ended } from '../failure/failure.ts'
import { chosenServer, connect } from '../session/connect.ts'
import { sizeText } from '../terminal/size.ts'
import { styleOf } from '../terminal/style.ts'
import { tableText } from '../terminal/table.ts'
import { lookHere } from './look-here.ts'

/** The server asks every host and waits 3 s for each, and may look through a large image store for 10 s. */
const DOCTOR_MS = 30_000

/** What the server says; or, when it can't be asked, what can be seen from here. */
type Report = DoctorReply & { readonly server_reached: boolean }

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('doctor')
    .description(
      'Look at server, image store, hosts, DNS, certificates and apps: what is wrong with the command that mends it, and what takes room. Ends with 0 when all is well, with 1 when something is wrong.',
    )
  explained(command, {
    examples: ['roost doctor', 'roost doctor --json | jq -r ".findings[].problem"'],
    json: `{checked_at, version, server_reached, findings: [{severity: error|warning, about, problem, why, fixes}],
 usage: [{where, file_systems: [{path, bytes, free_bytes, inodes, free_inodes, state}],
          kinds: [{kind, path, bytes, count, freeable_bytes}]}],
 hosts: [{name, region, status, agent_seen_at, edge_seen_at, clock_offset_ms, versions}]}`,
  })
  command.action(async (options: { json?: boolean }) => {
    const report = await examine(context)
    if (options.json) printJson(context, report)
    else context.stdout.write(reportText(report, context))
    if (report.findings.length > 0) throw new Ended(1)
  })
}

async function examine(context: CliContext): Promise<Report> {
  try {
    const reply = await connect(context).doctor({}, { timeoutMs: DOCTOR_MS })
    return { ...reply, server_reached: true }
  } catch (error) {
    const { what, why, fixes, exitCode } = explain(error)
    // Its answer was no: what is wrong is known, and it is not here.
    if (exitCode !== 3) throw error
    const here = await lookHere(chosenServer(context).url)
    const unreached: FindingReply = {
      severity: 'error',
      about: 'server',
      problem: what,
      why,
      fixes: [...fixes],
    }
    return {
      checked_at: new Date().toISOString(),
      version: VERSION,
      server_reached: false,
      findings: [unreached, ...here.findings],
      usage: here.usage,
      hosts: [],
    }
  }
}

function reportText(report: Report, context: CliContext): string {
  const style = styleOf(context, context.stdout)
  const lines: string[] = []
  for (const { severity, about, problem, why, fixes } of report.findings) {
    const mark = severity === 'error' ? style.red('✗') : style.yellow('!')
    lines.push(`${mark} ${style.bold(about)}: ${problem}`)
    if (why !== null) lines.push(`    ${why.replaceAll('\n', '\n    ')}`)
    for (const [n, fix] of fixes.entries()) lines.push(`    ${n === 0 ? 'Try: ' : '     '}${fix}`)
  }
  if (!report.server_reached)
    lines.push(
      '',
      'The server was not reached: this is what can be seen from this machine. What runs on the hosts runs on without it.',
    )
  const room = roomText(report, context)
  if (room !== '') lines.push(...(lines.length === 0 ? [] : ['']), room)
  const errors = report.findings.filter(({ severity }) => severity === 'error').length
  const warnings = report.findings.length - errors
  lines.push(
    '',
    report.findings.length === 0
      ? style.green(`All is well: ${count(report.hosts.length, 'host')} looked at.`)
      : [errors > 0 ? count(errors, 'error') : '', warnings > 0 ? count(warnings, 'warning') : '']
          .filter((text) => text !== '')
          .join(', '),
  )
  return `${lines.join('\n')}\n`
}

function roomText({ usage }: Report, context: CliContext): string {
  const style = styleOf(context, context.stdout)
  const rows = usage.flatMap(({ where, file_systems, kinds }) => [
    ...kinds
      .filter(({ bytes }) => bytes > 0)
      .sort((a, b) => b.bytes - a.bytes)
      .map(({ kind, bytes, count, freeable_bytes, path }) => [
        where,
        kind,
        sizeText(bytes),
        freeable_bytes > 0 ? sizeText(freeable_bytes) : '',
        String(count),
        path,
      ]),
    ...file_systems.map(({ path, bytes, free_bytes, state }) => [
      where,
      state === 'ok' ? 'free' : style.red(`free (${state})`),
      sizeText(free_bytes),
      '',
      '',
      `${path}, ${sizeText(bytes)} in all`,
    ]),
  ])
  if (rows.length === 0) return ''
  return tableText(['WHERE', 'WHAT', 'SIZE', 'NOT USED', 'COUNT', 'PATH'], rows, context.stdout)
}

function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`
}
