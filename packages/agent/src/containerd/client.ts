import {
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import { PlatformError, type Retry } from '@roost/base'
import { version } from './generated/index.js'

interface Method<Request, Response> {
  readonly path: string
  readonly requestSerialize: (value: Request) => Buffer
  readonly responseDeserialize: (value: Buffer) => Response
}

export interface CallOptions {
  /** Objects that the call makes are kept from the garbage collector by this lease. */
  readonly lease?: string | undefined
  readonly timeoutMs?: number
  readonly signal?: AbortSignal | undefined
}

const TIMEOUT_MS = 20_000
const MESSAGE_BYTES_MAX = 16 << 20

/** One connection to one containerd, one namespace. It reconnects by itself; every call has a deadline. */
export class ContainerdClient {
  readonly namespace: string
  readonly #grpc: Client

  constructor(address: string, namespace: string) {
    this.namespace = namespace
    this.#grpc = new Client(`unix:${address}`, credentials.createInsecure(), {
      'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
      // containerd is on the same machine: when it is back, we want to know at once.
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.min_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 500,
    })
  }

  call<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    options: CallOptions = {},
  ): Promise<Response> {
    return new Promise((resolve, reject) => {
      if (options.signal?.aborted) return reject(abortedError(method.path))
      const onAbort = () => running.cancel()
      const running = this.#grpc.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        this.#metadata(options.lease),
        { deadline: Date.now() + (options.timeoutMs ?? TIMEOUT_MS) },
        (error, response) => {
          options.signal?.removeEventListener('abort', onAbort)
          if (error) return reject(containerdError(method.path, error))
          resolve(response as Response)
        },
      )
      options.signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** The caller reads it to its end or cancels it. `timeoutMs: null` only for streams that last, such as events. */
  stream<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    timeoutMs: number | null,
  ): ClientReadableStream<Response> {
    return this.#grpc.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      this.#metadata(undefined),
      timeoutMs === null ? {} : { deadline: Date.now() + timeoutMs },
    )
  }

  duplex<Request, Response>(
    method: Method<Request, Response>,
    options: { lease?: string; timeoutMs: number },
  ): ClientDuplexStream<Request, Response> {
    return this.#grpc.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      this.#metadata(options.lease),
      { deadline: Date.now() + options.timeoutMs },
    )
  }

  /** All messages of a stream, at most `messagesMax`. */
  async collect<Request, Response>(
    method: Method<Request, Response>,
    request: Request,
    messagesMax = 100_000,
  ): Promise<Response[]> {
    const messages: Response[] = []
    const stream = this.stream(method, request, TIMEOUT_MS)
    try {
      for await (const message of stream) {
        messages.push(message as Response)
        if (messages.length >= messagesMax) break
      }
    } catch (error) {
      throw containerdError(method.path, error as ServiceError)
    } finally {
      stream.cancel()
    }
    return messages
  }

  /** Answers once containerd does. */
  async version(timeoutMs = 2000): Promise<string> {
    const reply = await this.call(version.VersionService.version, {}, { timeoutMs })
    return reply.version
  }

  close(): void {
    this.#grpc.close()
  }

  #metadata(lease: string | undefined): Metadata {
    const metadata = new Metadata()
    metadata.set('containerd-namespace', this.namespace)
    if (lease !== undefined) metadata.set('containerd-lease', lease)
    return metadata
  }
}

export const isNotFound = (error: unknown): boolean => grpcCode(error) === status.NOT_FOUND
export const isAlreadyExists = (error: unknown): boolean =>
  grpcCode(error) === status.ALREADY_EXISTS
export const isUnavailable = (error: unknown): boolean => grpcCode(error) === status.UNAVAILABLE

/** Undefined where containerd has no such thing. */
export async function orAbsent<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call
  } catch (error) {
    if (isNotFound(error)) return undefined
    throw error
  }
}

function grpcCode(error: unknown): number | undefined {
  const cause = error instanceof PlatformError ? error.cause : error
  return (cause as ServiceError | undefined)?.code
}

export function containerdError(path: string, error: ServiceError): PlatformError {
  const call = path.replace(/^.*\.(\w+)\/(\w+)$/, '$1.$2')
  const retry: Retry = 'later'
  const code = error.code === status.UNAVAILABLE ? 'unavailable' : 'internal'
  return new PlatformError(code, `containerd ${call}`, {
    // `details` is containerd's own text; the message would repeat the code in capitals.
    cause: Object.assign(new Error(error.details || error.message), { code: error.code }),
    retry,
  })
}

function abortedError(path: string): PlatformError {
  return containerdError(path, {
    ...new Error(),
    code: status.CANCELLED,
    details: 'aborted',
  } as ServiceError)
}
