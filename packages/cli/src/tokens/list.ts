import type { TokenReply } from '@roost/api'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { connect } from '../session/connect.ts'
import { styleOf } from '../terminal/style.ts'
import { tableText } from '../terminal/table.ts'
import { ago } from '../terminal/time.ts'

interface Options {
  readonly app?: string
  readonly all?: boolean
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('list')
    .description('Tokens: an administrator sees all, others the own and those made with it')
    .option('-a, --app <name>', 'only those that are for this app alone')
    .option('--all', 'also those that expired or were revoked in the last 30 days')
  explained(command, {
    examples: ['roost tokens list', 'roost tokens list -a shop --all --json'],
    json: '[{id, kind, name, apps: [name] | null (all), state: active|expired|revoked, created_at, created_by, parent, expires_at, last_used_at, revoked_at}]',
  })
  command.action(async (options: Options) => {
    const query = options.all ? { all: 'true' as const } : {}
    const tokens = (await connect(context).listTokens({ query })).filter(
      ({ apps }) => options.app === undefined || apps?.includes(options.app),
    )
    if (options.json) return printJson(context, tokens)
    if (tokens.length === 0) {
      context.stdout.write('No tokens.\n')
      return
    }
    const style = styleOf(context, context.stdout)
    const lines = tokens.map((token) => [
      token.id,
      token.kind,
      token.name,
      token.apps === null ? 'all' : token.apps.join(' '),
      endText(token, style.red),
      token.last_used_at === null ? 'never' : ago(token.last_used_at),
      token.created_by ?? '-',
    ])
    const headings = ['ID', 'KIND', 'NAME', 'APPS', 'ENDS', 'LAST USED', 'MADE BY']
    context.stdout.write(`${tableText(headings, lines, context.stdout)}\n`)
  })
}

function endText(token: TokenReply, warn: (text: string) => string): string {
  if (token.revoked_at !== null) return warn(`revoked ${ago(token.revoked_at)}`)
  if (token.expires_at === null) return 'never'
  return token.state === 'expired'
    ? warn(`expired ${ago(token.expires_at)}`)
    : token.expires_at.replace(/:\d\d\.\d+Z$/, 'Z')
}
