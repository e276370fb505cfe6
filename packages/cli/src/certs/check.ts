import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { Ended } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { certificateText, missingRecords } from './certificate-text.ts'
import { typedHostname } from './hostname.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('check')
      .description(
        'Say which DNS record of a name is missing or wrong, and try to order its certificate now. Ends with 0 when all is well, else with 1',
      )
      .argument('<hostname>', 'as roost certs list shows it'),
  )
  explained(command, {
    examples: ['roost certs check www.example.com -a shop', 'roost certs check example.com --json'],
    json: '{hostname, status, configured, acme_requested, challenge, acme_directory,\n certificates: [{source: fly|custom, status, issuer, created_at, expires_at, renews_at, fingerprint, issued}],\n dns_findings: [{type, name, state: right|missing|wrong|unknown, needed, wanted, found, why}],\n dns_requirements, dns_records, validation, validation_errors,\n failure: {at, host, times, challenge, why, next_at} | null}',
  })
  command.action((typed: string, options: AppOptions & { json?: boolean }) =>
    withApp(context, options, async ({ client, app }) => {
      const params = { app, hostname: typedHostname(typed) }
      const reply = await client.checkCertificate({ params })
      if (options.json) printJson(context, reply)
      else context.stdout.write(certificateText(context, reply, app))
      if (reply.status !== 'active' || missingRecords(reply).length > 0) throw new Ended(1)
    }),
  )
}
