import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { chosenServer, clientFor } from '../session/connect.ts'

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('whoami')
    .description('Which server is used, and what the token may do')
  explained(command, {
    examples: ['roost auth whoami', 'ROOST_API_URL=https://203.0.113.7:4280 roost auth whoami'],
    json: '{server, from, name, id, kind, actions, apps: [name] | null (all), expires_at, version, domain}',
  })
  command.action(async (options: { json?: boolean }) => {
    const server = chosenServer(context)
    const me = await clientFor(server, context).whoami()
    if (options.json) return printJson(context, { server: server.url, from: server.from, ...me })
    const facts: [string, string][] = [
      ['Server', `${server.url} (${server.from}), version ${me.version}`],
      ['Domain', me.domain],
      [
        'Token',
        `${me.name}${me.id === null ? '' : ` (${[me.kind, me.id].join(' ')})`}${me.expires_at === null ? '' : `, until ${me.expires_at}`}`,
      ],
      ['May', me.actions.join(' ')],
      ['Apps', me.apps === null ? 'all' : me.apps.join(' ')],
    ]
    context.stdout.write(facts.map(([name, value]) => `${name.padEnd(9)}${value}\n`).join(''))
  })
}
