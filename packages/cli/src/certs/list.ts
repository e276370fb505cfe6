import type { CertificateSummary } from '@roost/api'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { styleOf } from '../terminal/style.ts'
import { tableText } from '../terminal/table.ts'
import { statusText } from './certificate-text.ts'

/** An app has at most 500 names. */
const LIMIT = 500

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent.command('list').description('Names of your own that lead to an app'),
  )
  explained(command, {
    examples: ['roost certs list -a shop', 'roost certs list --json'],
    json: '[{hostname, status: active|pending_validation|pending_ownership|expired, configured, acme_requested, has_custom_certificate, has_fly_certificate, expires_at, created_at, updated_at, …}]',
  })
  command.action((options: AppOptions & { json?: boolean }) =>
    withApp(context, options, async ({ client, params, app }) => {
      const { certificates } = await client.listCertificates({ params, query: { limit: LIMIT } })
      if (options.json) return printJson(context, certificates)
      if (certificates.length === 0) {
        context.stdout.write(`${app} has no names of its own. Add one: roost certs add HOSTNAME\n`)
        return
      }
      const style = styleOf(context, context.stdout)
      const rows = certificates.map((one) => [
        one.hostname,
        one.status === 'active' ? statusText(one.status) : style.red(statusText(one.status)),
        sourceText(one),
        one.expires_at === null ? '-' : one.expires_at.slice(0, 10),
      ])
      context.stdout.write(
        `${tableText(['NAME', 'STATUS', 'CERTIFICATE', 'UNTIL'], rows, context.stdout)}\n`,
      )
    }),
  )
}

function sourceText(one: CertificateSummary): string {
  const sources = [
    one.has_custom_certificate ? 'imported' : [],
    one.acme_requested ? 'ordered' : [],
  ].flat()
  return sources.join(', ')
}
