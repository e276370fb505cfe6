import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { certificateText } from './certificate-text.ts'
import { typedHostname } from './hostname.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('show')
      .description('One name and its certificates, as they are known; `check` looks at DNS too')
      .argument('<hostname>', 'as roost certs list shows it'),
  )
  explained(command, {
    examples: ['roost certs show www.example.com -a shop'],
    json: 'as roost certs check --json, without what DNS says',
  })
  command.action((typed: string, options: AppOptions & { json?: boolean }) =>
    withApp(context, options, async ({ client, app }) => {
      const params = { app, hostname: typedHostname(typed) }
      const reply = await client.getCertificate({ params })
      if (options.json) return printJson(context, reply)
      context.stdout.write(certificateText(context, reply, app))
    }),
  )
}
