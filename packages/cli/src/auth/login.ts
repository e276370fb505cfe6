import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { usage } from '../failure/failure.ts'
import { checkedUrl, clientFor, readAuthority } from '../session/connect.ts'
import { contextsFile, readContexts, saveContext } from '../session/contexts.ts'
import { askSecret, askText, canAsk } from '../terminal/ask.ts'

interface Options {
  readonly token?: string
  readonly tokenFile?: string
  readonly ca?: string
  readonly name?: string
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('login')
    .description('Remember a server and a token for it; later commands use them')
    .argument('[url]', 'of the server, such as https://203.0.113.7:4280')
    .option('--token <token>', 'the token; others on this machine may see it in the process list')
    .option('--token-file <file>', 'read the token from a file; - is standard input')
    .option('--ca <file>', 'certificate authority of the server, PEM')
    .option('--name <name>', 'what to call it; default: host of the URL')
  explained(command, {
    examples: [
      'roost auth login https://203.0.113.7:4280 --ca authority.pem',
      'roost auth login https://203.0.113.7:4280 --token-file token',
    ],
    json: '{name, url, user, domain}',
  })
  command.action(async (said: string | undefined, options: Options) => {
    const url = checkedUrl(said ?? (await askedUrl(context)))
    const known = readContexts(context.env).all.find((one) => one.url === url)
    const ca = options.ca === undefined ? (known?.ca ?? null) : readAuthority(options.ca, '--ca')
    const token = await tokenFrom(context, options, url)
    const me = await clientFor({ url, ca, token }, context).whoami()
    const name = options.name ?? known?.name ?? new URL(url).hostname
    saveContext({ name, url, token, ca }, context.env)
    if (options.json) return printJson(context, { name, url, user: me.name, domain: me.domain })
    context.stdout.write(
      `Logged in to ${url} as ${me.name}. Kept in ${contextsFile(context.env)}, for you alone.\n`,
    )
  })
}

async function askedUrl(context: CliContext): Promise<string> {
  if (!canAsk(context))
    throw usage('the URL of the server is missing', 'roost auth login https://203.0.113.7:4280')
  return askText(context, { message: 'URL of the server', placeholder: 'https://203.0.113.7:4280' })
}

async function tokenFrom(context: CliContext, options: Options, url: string): Promise<string> {
  if (options.token !== undefined && options.tokenFile !== undefined)
    throw usage('--token and --token-file exclude each other')
  const token =
    options.token ??
    (options.tokenFile === undefined
      ? context.env['ROOST_API_TOKEN'] || (await askedToken(context, url))
      : options.tokenFile === '-'
        ? await allOf(context)
        : fileText(options.tokenFile))
  const trimmed = token.trim()
  if (trimmed === '' || /\s/.test(trimmed)) throw usage('that is no token: it is one word')
  return trimmed
}

async function askedToken(context: CliContext, url: string): Promise<string> {
  if (!canAsk(context))
    throw usage('the token is missing, and there is no terminal to ask on', [
      `roost auth login ${url} --token-file FILE`,
    ])
  return askSecret(context, `Token for ${url}`)
}

async function allOf(context: CliContext): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of context.stdin) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks).toString('utf8')
}

function fileText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw usage(
      `--token-file ${path} can't be read: ${cause instanceof Error ? cause.message : cause}`,
    )
  }
}
