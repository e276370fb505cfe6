import { spawn } from 'node:child_process'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'

interface Options extends AppOptions {
  readonly print?: boolean
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('open')
      .description('Open an app in the browser; without one, print its URL')
      .argument('[path]', 'below the app, such as /login'),
  ).option('--print', 'only print the URL')
  explained(command, {
    examples: ['roost open', 'roost open /admin -a shop', 'curl "$(roost open --print)"'],
    json: '{url}',
  })
  command.action((path: string | undefined, options: Options) =>
    withApp(context, options, async ({ client, params }) => {
      const { hostname } = await client.appStatus({ params })
      const url = new URL(path ?? '/', `http://${hostname}`).href
      if (options.json) return printJson(context, { url })
      context.stdout.write(`${url}\n`)
      if (options.print !== true && context.stdout.isTTY === true && hasDesktop(context))
        await openBrowser(url)
    }),
  )
}

function hasDesktop({ env }: CliContext): boolean {
  return process.platform === 'darwin' || Boolean(env['DISPLAY'] || env['WAYLAND_DISPLAY'])
}

/** The URL has been printed: a browser that does not come is no failure. */
function openBrowser(url: string): Promise<void> {
  return new Promise((resolve) => {
    const program = process.platform === 'darwin' ? 'open' : 'xdg-open'
    const child = spawn(program, [url], { stdio: 'ignore', detached: true })
    child.on('error', () => resolve())
    child.on('spawn', () => {
      child.unref()
      resolve()
    })
  })
}
